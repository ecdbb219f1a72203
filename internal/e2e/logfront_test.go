package e2e

import (
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// front stands before the simulated service, on loopback and without TLS, and may answer a request in its place. Each
// stanza has one of its own, so that several with different plights run in one process.
type front struct {
	*httptest.Server
	mu      sync.Mutex
	tokens  []http.HandlerFunc // answers to the first requests for tokens; nil: as the service answers
	alerts  []http.HandlerFunc
	pages   []http.HandlerFunc // answers to the first requests for further pages of Graph
	service http.Handler
}

func (s *scenario) front(p plight) *front {
	f := &front{service: s.svc, tokens: p.tokens, alerts: p.alerts, pages: p.pages}
	f.Server = httptest.NewServer(f)
	s.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	script := &f.alerts
	switch {
	case strings.Contains(r.URL.Path, "/oauth2/"):
		script = &f.tokens
	case strings.Contains(r.URL.RawQuery, "skiptoken"):
		script = &f.pages
	}
	var answer http.HandlerFunc
	f.mu.Lock()
	if len(*script) > 0 {
		answer, *script = (*script)[0], (*script)[1:]
	}
	f.mu.Unlock()
	if answer == nil {
		answer = f.service.ServeHTTP
	}
	answer(w, r)
}

// at is the address of the front that stands for one of the service's.
func (f *front) at(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return f.URL + u.Path
}

// answers gives a status and a body.
func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// writes sends this text in place of an answer and closes the connection.
func writes(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, text)
	}
}

// drips begins an answer, with as much as is no trickle if no more is to come (every 0), and sends a byte now and
// then until the client gives up.
func drips(every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		send := func(text string) {
			fmt.Fprint(w, text)
			_ = http.NewResponseController(w).Flush() // an error: the client is gone, which Context tells too
		}
		send("[")
		if every == 0 {
			send(strings.Repeat(" ", 1023))
			<-r.Context().Done()
			return
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				send(" ")
			}
		}
	}
}

// trustIn writes a ca_file with the authorities of the simulated service and of this server.
func (s *scenario) trustIn(server *httptest.Server) string {
	s.Helper()
	text, err := os.ReadFile(s.ca)
	if err != nil {
		s.Fatal(err)
	}
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})...)
	return s.file("ca.pem", string(text), 0o600)
}

// file writes one and returns its path.
func (s *scenario) file(name, text string, mode os.FileMode) string {
	s.Helper()
	path := filepath.Join(s.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.Fatal(err)
	}
	return path
}

// deaf is the address of a listener whose queue is full: a connection to it hangs.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue of a listener is never full")
	return ""
}
