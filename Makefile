# in_defender: a Fluent Bit input for Microsoft Defender alerts. See README.md.

GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
SO          := build/in_defender.so
LDFLAGS     := -s -w -X fluent-bit-defender/client.Version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NFPM        := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
CYCLONEDX   := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# A real Fluent Bit is used where there is one: FLUENT_BIT, else fluent-bit on PATH.
FLUENT_BIT  ?= $(shell command -v fluent-bit 2>/dev/null)
export FLUENT_BIT
export IN_DEFENDER_SO := $(CURDIR)/$(SO)

# Vectors are an experiment of Go 1.26 (record/vectors.go). Another version builds without them.
ifeq ($(origin GOEXPERIMENT),undefined)
export GOEXPERIMENT := $(if $(filter go1.26%,$(shell $(GO) env GOVERSION)),simd)
endif

# The client speaks HTTP/1.1 only (transport/transport.go): without HTTP/2 the .so is 0.4 MB smaller. Nothing of ours goes through the codec that
# fluent-bit-go brings: without its copies for each type the .so is 6.4 MB smaller.
TAGS := nethttpomithttp2,notmono,notfastpath

DEMO_SECONDS ?= 0
DEMO_API     ?= siem
DEMO_FORMAT  ?= native
HISTORIES    ?= 1000000
HISTORIES_CI ?= 1000

.PHONY: build build-kubernetes package test-package test-arm64 demo test test-packages test-beside test-race test-versions test-kubernetes test-cluster dashboard lint bench soak vuln \
	generate clean

build: ## the shared object, the operator's tool, the copier for init containers, and the host that stands in for Fluent Bit
	@mkdir -p build
	@echo building $(SO) >&2
	@$(GO) build -buildmode=c-shared -tags $(TAGS) -trimpath -ldflags "$(LDFLAGS)" -o $(SO) ./plugin
	@rm -f build/in_defender.h
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o build/defenderctl ./cmd/defenderctl
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o build/install-plugin ./cmd/install-plugin
	@$(GO) build -trimpath -o build/flbhost ./internal/flbhost/cmd/flbhost

build-kubernetes: ## the shared object and the operator's tool with Kubernetes in them, for db kubernetes://
	@mkdir -p build
	@echo building build/in_defender_kubernetes.so >&2
	@$(GO) build -buildmode=c-shared -tags $(TAGS),kubernetes -trimpath -ldflags "$(LDFLAGS)" -o build/in_defender_kubernetes.so ./plugin
	@rm -f build/in_defender_kubernetes.h
	@CGO_ENABLED=0 $(GO) build -tags kubernetes -trimpath -ldflags "$(LDFLAGS)" -o build/defenderctl-kubernetes ./cmd/defenderctl

# Packages of another architecture than this machine's need its C compiler (Debian: gcc-aarch64-linux-gnu).
PACKAGE_ARCHS   ?= amd64 arm64
PACKAGE_VERSION ?= $(subst -,.,$(or $(patsubst v%,%,$(filter v%,$(VERSION))),0.0.0~git.$(VERSION)))
CC_amd64        := x86_64-linux-gnu-gcc
CC_arm64        := aarch64-linux-gnu-gcc
DIST            := build/dist

package: $(PACKAGE_ARCHS:%=package-%) ## .deb and .rpm in build/dist, with checksums and an SBOM: the same bytes each time
	@for so in in_defender in_defender_kubernetes; do GOEXPERIMENT= $(GO) run $(CYCLONEDX) bin -json -noserial -notimestamp -std -version $(VERSION) \
		-output $(DIST)/$$so.cdx.json build/package/$(firstword $(PACKAGE_ARCHS))/lib/$$so.so; done
	@cd $(DIST) && rm -f SHA256SUMS && sha256sum * >SHA256SUMS && cat SHA256SUMS

package-%: build
	@command -v $(CC_$*) >/dev/null || { echo "no $(CC_$*): install it, or name the architectures that you want by PACKAGE_ARCHS"; exit 1; }
	@rm -rf build/package/$* && mkdir -p build/package/$*/lib build/package/$*/man build/package/$*/completions $(DIST)
	@echo building the packages of $* >&2
	@export GOARCH=$* CC=$(CC_$*) CGO_ENABLED=1; for tags in :$(TAGS) _kubernetes:$(TAGS),kubernetes; do \
		$(GO) build -buildmode=c-shared -tags $${tags#*:} -trimpath -ldflags "$(LDFLAGS)" -o build/package/$*/lib/in_defender$${tags%%:*}.so ./plugin || exit 1; done
	@rm -f build/package/$*/lib/*.h && chmod 0644 build/package/$*/lib/*.so
	@GOARCH=$* CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o build/package/$*/defenderctl ./cmd/defenderctl
	@sed 's,/usr/local/,/usr/,' deploy/systemd/fluent-bit-defender.service >build/package/$*/fluent-bit-defender.service
	@export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); cd build/package/$* && ../../defenderctl man man && gzip -n -9 man/* && \
		../../defenderctl completion bash >completions/defenderctl && ../../defenderctl completion zsh >completions/_defenderctl && \
		../../defenderctl completion fish >completions/defenderctl.fish
	@export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) ARCH=$* STAGE=build/package/$* PACKAGE_VERSION='$(PACKAGE_VERSION)'; \
		find build/package/$* -exec touch -h -d @$$SOURCE_DATE_EPOCH {} +; \
		for kind in deb rpm; do GOEXPERIMENT= $(GO) run $(NFPM) package -f deploy/package/nfpm.yaml -p $$kind -t $(DIST) >&2 || exit 1; done

test-package: ## installs, runs, upgrades and removes the .deb of this machine: as root, on a machine that may be changed
	@$(MAKE) --no-print-directory package PACKAGE_ARCHS=$$($(GO) env GOARCH) DIST=build/dist-test PACKAGE_VERSION=0.0.1 >&2
	@$(MAKE) --no-print-directory package-$$($(GO) env GOARCH) DIST=build/dist-test PACKAGE_VERSION=0.0.2 >&2
	@cd deploy && PACKAGES=$(CURDIR)/build/dist-test $(GO) run fluent-bit-defender/internal/testrun -- -count=1 -run TestThePackage ./...

# qemu-user runs what was built for arm64 (Debian: qemu-user, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross).
QEMU := qemu-aarch64 -L /usr/aarch64-linux-gnu

test-arm64: ## the transcoder's and the state's tests on arm64, and the shared object loaded there: under qemu-user
	@{ command -v qemu-aarch64 && command -v $(CC_arm64); } >/dev/null || { echo "no qemu-aarch64 or no $(CC_arm64)"; exit 1; }
	@mkdir -p build/arm64 && $(GO) build -o build/testrun ./internal/testrun
	@GOARCH=arm64 CGO_ENABLED=0 build/testrun -- -count=1 -short -timeout 15m -exec "$(QEMU)" ./record
	@echo the state without the tests that start themselves once more, which no emulator does >&2
	@GOARCH=arm64 CGO_ENABLED=0 build/testrun -- -count=1 -short -timeout 5m -exec "$(QEMU)" -skip 'Kill9|MayNotGrow|OnAFullDisk|OfAnotherProcess' ./state
	@GOARCH=arm64 CC=$(CC_arm64) CGO_ENABLED=1 $(GO) build -buildmode=c-shared -tags $(TAGS) -trimpath -ldflags "$(LDFLAGS)" -o build/arm64/in_defender.so ./plugin
	@CC=$(CC_arm64) FLBHOST_EMULATOR="$(QEMU)" IN_DEFENDER_SO=$(CURDIR)/build/arm64/in_defender.so CGO_ENABLED=0 \
		build/testrun -- -count=1 -run 'TestHostileValues/duplicate_keys|TestHostileAnswers/HTML' ./internal/hostile

demo: build ## records of a simulated service as JSON lines, until Ctrl-C or for DEMO_SECONDS
	@$(GO) run ./internal/demo -so $(SO) -seconds $(DEMO_SECONDS) -api $(DEMO_API) -format $(DEMO_FORMAT)

# A thousand histories of one process, an eighth as many in which the SIEM API ends, and a thousand of pods that share. The packages that take longest
# begin first: some of them compute, the others wait for processes, so a second run goes on beside them. Vet is lint's. What the image's build stage makes is
# tested where Kubernetes is built in anyway (test-kubernetes). Paths that are the same in every clone let unchanged packages come out of Go's cache; not in
# deploy, whose many dependencies lint would have built once more.
TESTFLAGS := -vet=off -count=1 -trimpath

test: build ## all tests at their short size
	@$(MAKE) --no-print-directory -j2 test-packages test-beside

test-packages:
	@HISTORIES=$(HISTORIES_CI) $(GO) run ./internal/testrun -- $(TESTFLAGS) -p 4 -timeout 10m ./pull ./share ./internal/e2e ./plugin ./...

# How long hostile rows take has nothing to do with vectors.
WITHOUT_VECTORS := $(TESTFLAGS) -skip '^(TestHostileRows|TestHostileBodies|TestManyKeysAndElements|TestATableOfManyKeysGoesWithItsRow)$$' ./record

test-beside:
	@cd deploy && $(GO) run fluent-bit-defender/internal/testrun -- -vet=off -count=1 -skip TestBuildStage ./...
	@echo the transcoder without vectors, built so and on a processor without them >&2
	@GOEXPERIMENT= $(GO) run ./internal/testrun -- $(WITHOUT_VECTORS)
	@GODEBUG=cpu.avx2=off $(GO) run ./internal/testrun -- $(WITHOUT_VECTORS)

# Left out is what drives processes and computes nothing itself: the shared object and the programs that it loads are built without the race detector, and the
# simulated service, which runs in the test's own process there, has tests of its own.
RACELESS := /internal/(e2e|hostile|flbhost|linkcheck|testversions|defendersim/cmd)|/cmd/install-plugin

test-race: build ## tests under the race detector, with fewer histories
	@HISTORIES=100 $(GO) run ./internal/testrun -- -vet=off -count=1 -race -timeout 20m $$($(GO) list ./... | grep -vE '$(RACELESS)')

test-versions: build ## the end-to-end tests with each of FLUENT_BITS="program program" (RUN: which tests), and a matrix of what passed with which
	@$(GO) run ./internal/testversions $(FLUENT_BITS)

# kube-apiserver takes four minutes and 2.4 GB the first time. etcd is the machine's (Debian: etcd-server), or the one that ETCD names; else it is fetched as a
# package and not installed.
KUBE      := build/kubernetes
KUBE_VERS := 1.37.2
KUBE_BASE := k8s.io/component-base/version
ETCD      ?= $(shell command -v etcd 2>/dev/null || echo $(CURDIR)/$(KUBE)/etcd/usr/bin/etcd)

KUBE_PROG := kube-apiserver kube-controller-manager kube-scheduler
KWOK      := sigs.k8s.io/kwok@v0.8.0

$(KUBE_PROG:%=$(KUBE)/%) $(CURDIR)/$(KUBE)/kubectl: test/kubernetes/go.mod
	@mkdir -p $(KUBE)
	@echo building $(@F), which may take minutes >&2
	@cd test/kubernetes && CGO_ENABLED=0 GOEXPERIMENT= $(GO) build -ldflags '-s -w -X $(KUBE_BASE).gitVersion=v$(KUBE_VERS) -X $(KUBE_BASE).gitMajor=1 -X $(KUBE_BASE).gitMinor=37' \
		-o $(CURDIR)/$(KUBE)/$(@F) k8s.io/kubernetes/cmd/$(@F)

# kwok, and what it does with nodes and pods: its own stages, from its module. Another version is built after make clean.
$(KUBE)/kwok:
	@mkdir -p $(KUBE)
	@echo building kwok >&2
	@cd $(KUBE) && GOBIN=$(CURDIR)/$(KUBE) CGO_ENABLED=0 GOEXPERIMENT= $(GO) install -trimpath -ldflags '-s -w' $(subst @,/cmd/kwok@,$(KWOK))
	@cd $(KUBE) && dir=$$($(GO) mod download -json $(KWOK) | sed -n 's/^.*"Dir": "\(.*\)".*/\1/p') && \
		for f in $$dir/kustomize/stage/node/fast/node-*.yaml $$dir/kustomize/stage/pod/fast/pod-*.yaml; do echo ---; cat $$f; done >kwok.yaml
	@touch $@

$(CURDIR)/$(KUBE)/etcd/usr/bin/etcd:
	@mkdir -p $(KUBE)
	@cd $(KUBE) && apt-get download -qq etcd-server >&2 && dpkg -x etcd-server_*.deb etcd

test-kubernetes: build build-kubernetes $(KUBE)/kube-apiserver $(ETCD) ## pods that share, in real processes over a real kube-apiserver
	@KUBE_APISERVER=$(CURDIR)/$(KUBE)/kube-apiserver ETCD=$(ETCD) IN_DEFENDER_KUBERNETES_SO=$(CURDIR)/build/in_defender_kubernetes.so \
		DEFENDERCTL=$(CURDIR)/build/defenderctl-kubernetes \
		$(GO) run ./internal/testrun -- -tags kubernetes -count=1 -parallel 3 -timeout 20m ./kube ./internal/podtest
	@cd deploy && KUBE_APISERVER=$(CURDIR)/$(KUBE)/kube-apiserver ETCD=$(ETCD) $(GO) run fluent-bit-defender/internal/testrun -- -tags kubernetes -count=1 -run 'TheAPIServer|TestBuildStage' ./...

# Debian 12's etcd is too old for kwok, which sees changes late over it.
$(KUBE)/etcd-server: test/kubernetes/go.mod
	@mkdir -p $(KUBE)
	@echo building etcd >&2
	@cd test/kubernetes && CGO_ENABLED=0 GOEXPERIMENT= $(GO) build -ldflags '-s -w' -o $(CURDIR)/$@ go.etcd.io/etcd/server/v3

# kubectl too is the machine's, or the one that KUBECTL names; else it is built.
override KUBECTL := $(or $(shell command -v $(or $(KUBECTL),kubectl) 2>/dev/null),$(CURDIR)/$(KUBE)/kubectl)

test-cluster: build build-kubernetes $(KUBE_PROG:%=$(KUBE)/%) $(KUBE)/kwok $(KUBE)/etcd-server $(KUBECTL) ## the DaemonSet in a cluster of twenty nodes: as root, with a Fluent Bit
	@cd deploy && KUBE_PROGRAMS=$(CURDIR)/$(KUBE) KUBECTL=$(KUBECTL) KUBE_APISERVER=$(CURDIR)/$(KUBE)/kube-apiserver ETCD=$(CURDIR)/$(KUBE)/etcd-server \
		$(GO) test -tags kubernetes -count=1 -run TestADaemonSetRollsOver -v .

dashboard: build ## the picture in docs/metrics.md anew: twelve minutes of a Fluent Bit, drawn by chromium with uPlot from npm
	@for p in npm chromium pngquant; do command -v $$p >/dev/null || { echo "no $$p: install it first"; exit 1; }; done
	@mkdir -p build/dashboard && cp deploy/grafana/picture.html build/dashboard/
	@cd build/dashboard && npm install --silent --no-audit --no-fund --no-save --prefix . uplot@1.6.32
	@cd deploy && DASHBOARD_DATA=$(CURDIR)/build/dashboard/data.js $(GO) run fluent-bit-defender/internal/testrun -- -count=1 -timeout 20m -run TestPictureOfTheDashboard ./...
	@cd build/dashboard && chromium --headless --no-sandbox --hide-scrollbars --virtual-time-budget=3000 --window-size=1400,1240 --screenshot=dashboard.png "file://$$PWD/picture.html"
	@pngquant --force --quality 60-95 --output docs/dashboard.png 64 build/dashboard/dashboard.png

lint: generate build build-kubernetes ## formatting, vet, linters, old modules, and nothing generated that is stale
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	$(GO) vet ./...
	GOEXPERIMENT= $(GO) vet ./record
	$(GO) run $(GOLANGCI) run ./...
	cd bench && $(GO) vet ./...
	$(GO) run ./internal/linkcheck $(SO) build/in_defender_kubernetes.so build/defenderctl build/defenderctl-kubernetes build/install-plugin
	cd deploy && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...
	@git diff --exit-code -- docs || { echo "generated files are stale: commit what make generate writes"; exit 1; }

generate: ## what is generated from code
	$(GO) generate ./...

soak: build ## the long form: a million histories, a hundred kills and reloads, ten hours of the service's clock
	HISTORIES=$(HISTORIES) $(GO) test -count=1 -timeout 24h -run TestHistories -v ./pull
	HISTORIES=100000 $(GO) test -count=1 -timeout 24h -run TestHistories ./share
	SOAK=1 $(GO) test -count=1 -timeout 24h -v ./internal/e2e ./internal/hostile ./record

bench: build ## speed and memory, as ratios measured in one run
	cd bench && $(GO) run . $(BENCH_FLAGS)
	$(GO) test -run '^$$' -bench . -benchmem ./record ./shape ./state

vuln: ## needs the vulnerability database, so it is not part of lint
	$(GO) run $(GOVULNCHECK) ./...

clean: ## removes what was built
	rm -rf build
	$(GO) clean -testcache
