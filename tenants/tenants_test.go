package tenants

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"fluent-bit-defender/conf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noEnv(string) string { return "" }

// stanza returns the keys of a stanza whose tenants_file is at path; lines are further keys.
func stanza(path string, lines ...string) func(string) string {
	values := map[string]string{"tenants_file": path, "client_id": "35e0f735-5fe4-4693-9e68-3de80f1d3745",
		"client_secret_file": "/etc/defender/secret", "region": "eu"}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		values[key] = value
	}
	return func(key string) string { return values[key] }
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func list(ids ...string) string {
	var b strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&b, "- tenant_id: %s.com\n", id)
	}
	return b.String()
}

func TestAStanzaIsOneTenantOrThoseOfItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenants.yaml")
	write(t, path, list("a", "b"))
	if _, all, err := Load(stanza(path), noEnv); err != nil || len(all) != 2 || all[1].TenantID != "b.com" {
		t.Errorf("%v %v", all, err)
	}
	if s, all, err := Load(stanza("", "tenant_id c.com"), noEnv); err != nil || len(all) != 1 || all[0] != s.Config {
		t.Errorf("%v %v", all, err)
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tenants.yaml")
	write(t, path, "- tenant_id: a.com\n  limit: 0\n- name: b\n")
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(get func(string) string, want ...string) {
		t.Helper()
		_, _, err := Load(get, noEnv)
		if diff := cmp.Diff(strings.Join(want, "\n"), fmt.Sprint(err)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	f(stanza(path, "poll_interval 5x"),
		`poll_interval: "5x" is not a duration; allowed: 1s to 1d, written as 90s, 5m, 2h, 7d or a bare number of seconds`,
		`tenants_file: line 2: limit: "0" is too small; allowed: a whole number from 1 to 1000000000`,
		`tenants_file: line 3: tenant_id: missing here and in the stanza; allowed: the tenant's GUID, or one of its domain names such as contoso.onmicrosoft.com`)
	f(stanza(dir+"/none"), "tenants_file: cannot be read: open "+dir+"/none: no such file or directory; give the "+
		"path of a list of tenants, readable for Fluent Bit")
	f(stanza(fifo), "tenants_file: is no regular file; give the path of a list of tenants")
	f(stanza(dir), "tenants_file: is no regular file; give the path of a list of tenants")
	if err := os.Truncate(path, conf.MaxTenantsFile+1); err != nil {
		t.Fatal(err)
	}
	f(stanza(path), "tenants_file: 16777217 bytes are too many; allowed: 16777216")
}

// world runs a Watcher in virtual time.
type world struct {
	*testing.T
	path    string
	mu      sync.Mutex // guards what follows: the watcher wakes when the test does
	log     bytes.Buffer
	applied []string        // what was asked for since the last call of want
	refuse  map[string]bool // tenants that cannot begin
	stop    context.CancelFunc
	done    chan struct{}
}

func watch(t *testing.T, path string) *world {
	s, now, err := Load(stanza(path), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, path: path, refuse: map[string]bool{}, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	watcher := NewWatcher(s, now, w.apply, slog.New(slog.NewTextHandler(w, nil)))
	go func() {
		defer close(w.done)
		watcher.Run(ctx)
	}()
	return w
}

// Write is the log's.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) apply(_ context.Context, d conf.Difference) (failed []*conf.Config) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range d.Stop {
		w.applied = append(w.applied, "stop "+c.TenantID)
	}
	for _, c := range d.Change {
		w.applied = append(w.applied, "change "+c.New.TenantID)
	}
	for _, c := range d.Begin {
		w.applied = append(w.applied, "begin "+c.TenantID)
		if w.refuse[c.TenantID] {
			failed = append(failed, c)
		}
	}
	return failed
}

// refusing makes a tenant one that cannot begin, or that can.
func (w *world) refusing(tenant string, it bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse[tenant] = it
}

// want waits for a time and then expects what was applied.
func (w *world) want(after time.Duration, applied ...string) {
	w.Helper()
	time.Sleep(after)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(applied, w.applied) {
		w.Errorf("applied %q, want %q", w.applied, applied)
	}
	w.applied = nil
}

// logged expects the log to hold a text since the last call; empty: nothing.
func (w *world) logged(text string) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := w.log.String(); !strings.Contains(got, text) || text == "" && got != "" {
		w.Errorf("the log says %q, not %q", got, text)
	}
	w.log.Reset()
}

func watched(t *testing.T, test func(w *world)) {
	path := filepath.Join(t.TempDir(), "tenants.yaml")
	write(t, path, list("a", "b", "c"))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, path)
		test(w)
		w.stop()
		<-w.done
	})
}

const within = 10 * time.Second // of a change

func TestAChangedFileIsFollowed(t *testing.T) {
	ways := map[string]func(w *world, text string){
		"in place": func(w *world, text string) { write(w.T, w.path, text) },
		"renamed into place": func(w *world, text string) {
			write(w.T, w.path+".new", text)
			if err := os.Rename(w.path+".new", w.path); err != nil {
				w.Fatal(err)
			}
		},
		"piece by piece": func(w *world, text string) {
			write(w.T, w.path, "")
			for i := range text {
				write(w.T, w.path, text[:i+1])
				time.Sleep(100 * time.Millisecond)
			}
		},
	}
	for name, change := range ways {
		t.Run(name, func(t *testing.T) {
			watched(t, func(w *world) {
				w.want(time.Minute)
				w.logged("")
				change(w, list("a", "d", "c"))
				w.want(within, "stop b.com", "begin d.com")
				w.logged("3 tenants are pulled now: 1 began, 1 stopped, 0 changed, 0 cannot begin")
				change(w, list("a", "d", "c")+"  limit: 5\n")
				w.want(within, "change c.com")
				w.logged("0 began, 0 stopped, 1 changed")
				w.want(time.Hour)
				w.logged("")
			})
		})
	}
}

// Kubernetes shows a ConfigMap through a link to a directory, and changes it by another link.
func TestAConfigMapIsFollowed(t *testing.T) {
	dir := t.TempDir()
	turn := func(version string, ids ...string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "tenants.yaml"), list(ids...))
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	turn("..one", "a", "b")
	path := filepath.Join(dir, "tenants.yaml")
	if err := os.Symlink("..data/tenants.yaml", path); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, path)
		turn("..two", "a", "c")
		w.want(within, "stop b.com", "begin c.com")
		w.stop()
		<-w.done
	})
}

func TestAFileThatCannotBeUsedChangesNothing(t *testing.T) {
	for name, c := range map[string]struct{ text, logged string }{
		"no YAML":    {"- [", "no valid YAML"},
		"empty":      {"", "holds no tenant"},
		"no list":    {"a: b\n", "not a list"},
		"empty list": {"[]\n", "holds no tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, func(w *world) {
				write(w.T, w.path, c.text)
				w.want(within)
				w.logged(c.logged)
				w.want(time.Hour)
				w.logged("") // told once
				write(w.T, w.path, list("a", "b"))
				w.want(within, "stop c.com")
			})
		})
	}
	t.Run("gone", func(t *testing.T) {
		watched(t, func(w *world) {
			if err := os.Remove(w.path); err != nil {
				w.Fatal(err)
			}
			w.want(within)
			w.logged("no such file or directory; give the path of a list of tenants, readable for Fluent Bit; the " +
				"tenants stay as they are")
			w.want(time.Hour)
			w.logged("")
			write(w.T, w.path, list("a", "b"))
			w.want(within, "stop c.com")
		})
	})
}

func TestATenantWithAFaultGoesOnAsItWas(t *testing.T) {
	watched(t, func(w *world) {
		write(w.T, w.path, list("a", "b")+"  region: de\n"+list("d"))
		w.want(within, "stop c.com", "begin d.com")
		w.logged(`line 3: region: \"de\" is not one of its values`)
		write(w.T, w.path, list("a", "b", "d"))
		w.want(within) // as it was before
		w.logged("")
	})
}

func TestATenantThatCannotBeginIsTriedAgain(t *testing.T) {
	watched(t, func(w *world) {
		w.refusing("d.com", true)
		write(w.T, w.path, list("a", "b", "c", "d"))
		w.want(within, "begin d.com")
		w.logged("3 tenants are pulled now: 0 began, 0 stopped, 0 changed, 1 cannot begin")
		w.want(2*time.Minute, "begin d.com", "begin d.com")
		w.logged("") // of the same nothing is said again
		w.refusing("d.com", false)
		w.want(time.Minute, "begin d.com")
		w.logged("4 tenants are pulled now: 1 began, 0 stopped, 0 changed, 0 cannot begin")
		w.want(time.Hour)
		w.logged("")
	})
}
