package hostile

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"fluent-bit-defender/internal/defendersim"
)

// secrets are the texts that must not be found in what the plugin writes.
type secrets struct {
	mu    sync.Mutex
	known []string
}

func (s *secrets) add(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret != "" && !slices.Contains(s.known, secret) {
		s.known = append(s.known, secret)
	}
}

// pieces are all pieces of the secrets, in the forms in which they could come to light.
func (s *secrets) pieces() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pieces := map[string]bool{}
	for _, secret := range s.known {
		quoted, _ := json.Marshal(secret)
		for _, form := range []string{
			secret, url.QueryEscape(secret), url.PathEscape(secret), string(quoted), hex.EncodeToString([]byte(secret)),
			base64.StdEncoding.EncodeToString([]byte(secret)), base64.URLEncoding.EncodeToString([]byte(secret)),
		} {
			for i := 0; i+piece <= len(form); i++ {
				pieces[form[i:i+piece]] = true
			}
		}
	}
	return pieces
}

// piece is how many bytes of a secret in a row give it away.
const piece = 12

// header finds a credential by what stands before it, or by its form. Words about authorization are no credential.
var header = regexp.MustCompile(`(?i)authorization["']?\s*[:=]\s*[^\s\[]|\bbearer\s+[^\s\[]|eyJhbGci`)

// find returns the lines of text that hold a secret, a piece of one, or what looks like one, each with what it is.
func (s *secrets) find(text []byte) (found []string) {
	pieces := s.pieces()
	for line := range bytes.Lines(text) {
		what := ""
		if header.Match(bytes.ReplaceAll(line, []byte("Bearer [masked]"), []byte("[masked]"))) {
			what = "a credential's head"
		}
		for i := 0; i+piece <= len(line); i++ {
			if pieces[string(line[i:i+piece])] {
				what = fmt.Sprintf("a piece of a secret (%q)", line[i:i+piece])
				break
			}
		}
		if what != "" {
			found = append(found, fmt.Sprintf("%s: %.300q", what, line))
		}
	}
	return found
}

// search fails for what find finds.
func (s *secrets) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for i, line := range s.find(text) {
		if i == 20 {
			t.Errorf("%s holds more than that", where)
			break
		}
		t.Errorf("%s holds %s", where, line)
	}
}

func TestTheSearchFindsWhatMustNotBeThere(t *testing.T) {
	t.Parallel()
	var s secrets
	s.add(defendersim.DefaultSecret)
	for _, text := range []string{
		defendersim.DefaultSecret, "x" + defendersim.DefaultSecret[7:21] + "x",
		url.QueryEscape(defendersim.DefaultSecret),
		base64.StdEncoding.EncodeToString([]byte(defendersim.DefaultSecret)), "Authorization: x", "authorization=x",
		"Bearer x", "eyJhbGciOiJub25l",
	} {
		if len(s.find([]byte("a line\n"+text+"\nanother"))) != 1 {
			t.Errorf("%q was not found", text)
		}
	}
	if found := s.find([]byte("Authorization has been denied; a token of type bearer; Authorization: " +
		"Bearer [masked]\n")); len(found) > 0 {
		t.Errorf("%q was found", found)
	}
}

// searchFiles looks into all files of a folder but those with a secret of their own, and at their modes.
func (s *secrets) searchFiles(t *testing.T, dir string, ours func(name string) bool) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !ours(d.Name()) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", d.Name(), info.Mode())
		}
		files++
		s.search(t, d.Name(), text)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if files == 0 {
		t.Errorf("no file of ours in %s", dir)
	}
}

// transcript is all that a host writes to its log, as far as most bytes hold it (0: all).
type transcript struct {
	mu   sync.Mutex
	b    bytes.Buffer
	most int
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.most > 0 && l.b.Len() > l.most {
		return len(p), nil
	}
	return l.b.Write(p)
}

func (l *transcript) text() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// listen serves over TLS on loopback; ca is the file with its CA.
func listen(t *testing.T, handler http.HandlerFunc) (base, ca string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL, certificate(t, srv)
}

// certificate writes a server's certificate to a file.
func certificate(t *testing.T, srv *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// concatenate writes the certificates of several files into one.
func concatenate(t *testing.T, paths ...string) string {
	t.Helper()
	var all []byte
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	path := filepath.Join(t.TempDir(), "all.pem")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// front puts a service behind servers that note every credential on its way, in either direction.
type front struct {
	secrets
	svc        *defendersim.Service
	login, api string
	ca         string
	stray      int // credentials where they do not belong
}

func newFront(t *testing.T, svc *defendersim.Service) *front {
	t.Helper()
	f := &front{svc: svc}
	f.add(defendersim.DefaultSecret)
	f.login, f.ca = listen(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			f.count()
		}
		copied := &copying{ResponseWriter: w}
		defer func() {
			var answer struct {
				Token string `json:"access_token"`
			}
			json.Unmarshal(copied.text.Bytes(), &answer) // what is no token holds none
			f.add(answer.Token)
		}()
		svc.ServeHTTP(copied, r)
	})
	f.api, _ = listen(t, func(w http.ResponseWriter, r *http.Request) {
		f.add(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if strings.Contains(r.URL.String(), "client_secret") || r.ContentLength > 0 {
			f.count()
		}
		svc.ServeHTTP(w, r)
	})
	return f
}

func (f *front) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stray++
}

// copying keeps a copy of an answer's beginning.
type copying struct {
	http.ResponseWriter
	text bytes.Buffer
}

func (c *copying) Write(p []byte) (int, error) {
	if c.text.Len() < 64<<10 {
		c.text.Write(p)
	}
	return c.ResponseWriter.Write(p)
}

func (c *copying) Unwrap() http.ResponseWriter { return c.ResponseWriter }
