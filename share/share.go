// Package share lets the pods of a DaemonSet share the work: each source (a tenant with its filters) is pulled by one
// pod, and its state lives in the Kubernetes API, where the next pod finds it. The engine of it is Kubernetes: a
// Lease for each worker, elected by client-go, and a ConfigMap for each source, written by compare-and-swap only.
// This package decides and encodes; what speaks to an API server is behind API.
package share

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"fluent-bit-defender/state"
)

// Labels and annotations of the objects.
const (
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "fluent-bit-defender"
	NameLabel      = "fluent-bit-defender/name" // NAME of db kubernetes://NAME
	// hash of API and tenant: sources of one tenant with other filters
	TenantLabel = "fluent-bit-defender/tenant"
	// of a Lease: the Hashes of the sources that its holder has, one after the other
	SourcesAnnotation = "fluent-bit-defender/sources"
)

// Errors of an API, wrapped in one that names the object.
var (
	ErrNotFound = errors.New("not found")
	// ErrConflict: the object is not at the version that was read, or exists already.
	ErrConflict = errors.New("somebody else wrote it")
	// ErrRefused: the API server answered, and did nothing. After any other error nobody knows whether a write was
	// done.
	ErrRefused = errors.New("refused by the API server")
)

// API is a namespace of a Kubernetes API server, with the objects of one NAME. Its methods may be called
// concurrently. Errors other than those above are of the network, or time-outs.
type API interface {
	// Leases returns the workers' Leases.
	Leases(ctx context.Context) ([]Lease, error)
	// Lead tries to become the holder of the Lease of this slot. It returns when that fails, when the Lease is lost
	// later, or when ctx ends; then it is released first.
	Lead(ctx context.Context, slot int, c Candidate) error

	Get(ctx context.Context, name string) (Object, error)
	// Create and Update return the object as it is now, with its new Version. Update succeeds only from the Version
	// given.
	Create(ctx context.Context, o Object) (Object, error)
	Update(ctx context.Context, o Object) (Object, error)
	// OfTenant returns the objects with this TenantLabel.
	OfTenant(ctx context.Context, label string) ([]Object, error)
}

// Candidate is who wants to lead, and what it is told. Its functions are called from a goroutine of Lead.
type Candidate struct {
	Identity string
	// Dead is the Lease as it was when its holder had not renewed it for the lease duration: while it is so, it is
	// free. Zero: none.
	Dead Lease
	// Sources is asked at each write of the Lease.
	Sources func() []Hash
	// Leading is called once when the Lease is held.
	Leading func()
	// Renewed is called after each write of the Lease that succeeded, the first included, with the time before the
	// request was sent.
	Renewed func(sent time.Time)
	// Failed is called after each write that did not.
	Failed func(err error)
}

// Lease is a worker's Lease as an API server shows it.
type Lease struct {
	Slot    int
	Holder  string    // identity; empty: nobody
	Renewed time.Time // by the holder's clock
	Sources []Hash
}

// Same tells whether a Lease was not renewed between two looks.
func (l Lease) Same(o Lease) bool {
	return l.Slot == o.Slot && l.Holder == o.Holder && l.Renewed.Equal(o.Renewed)
}

// Object is a ConfigMap.
type Object struct {
	Name    string
	Version string // resourceVersion; empty before it is created
	Tenant  string // its TenantLabel
	Data    map[string]string
	Binary  map[string][]byte
}

// Hash names a source in few characters.
type Hash string

const (
	// 40 bits: two of a thousand sources are alike once in two million times, and would then only be spread worse
	hashLen       = 8
	objectHashLen = 10
)

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

func hashed(of any, length int) string {
	text, err := json.Marshal(of)
	if err != nil {
		panic(err) // strings only
	}
	sum := sha256.Sum256(text)
	return encoding.EncodeToString(sum[:])[:length]
}

// HashOf returns the Hash of a source.
func HashOf(key state.Key) Hash { return Hash(hashed(key, hashLen)) }

// JoinHashes writes Hashes as SourcesAnnotation has them, SplitHashes reads them.
func JoinHashes(hashes []Hash) string {
	var b strings.Builder
	for _, h := range hashes {
		b.WriteString(string(h))
	}
	return b.String()
}

// SplitHashes reads what JoinHashes wrote; of anything else, as many as there are.
func SplitHashes(text string) (out []Hash) {
	for ; len(text) >= hashLen; text = text[hashLen:] {
		out = append(out, Hash(text[:hashLen]))
	}
	return out
}

// objectName is the name of the ConfigMap of a source.
func objectName(name string, key state.Key) string { return name + "-" + hashed(key, objectHashLen) }

// tenantLabel tells which sources differ in their filters and region only.
func tenantLabel(key state.Key) string { return hashed([]string{key.API, key.Tenant}, objectHashLen) }

// LeaseName is the name of a worker's Lease.
func LeaseName(name string, slot int) string { return fmt.Sprintf("%s-worker-%d", name, slot) }
