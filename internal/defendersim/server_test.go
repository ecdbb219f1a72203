package defendersim

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func startServer(t *testing.T, s *Service, o ServerOptions) (*Server, *http.Client) {
	t.Helper()
	srv, err := Start(s, o)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: srv.TLSConfig(), DisableCompression: true}
	t.Cleanup(func() { tr.CloseIdleConnections(); srv.Close() })
	return srv, &http.Client{Transport: tr}
}

func TestTheCAIsTrustedAndNothingElse(t *testing.T) {
	srv, client := startServer(t, New(Config{}), ServerOptions{Names: []string{"wdatp-alertexporter-us.windows.com"}})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := srv.WriteCA(file); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	want(t, "PEM", pool.AppendCertsFromPEM(pem), true)
	want(t, "it holds no key", strings.Contains(string(pem), "PRIVATE"), false)
	try := func(c *tls.Config) error {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(srv.Authority(), "https://"), c)
		if err == nil {
			conn.Close()
		}
		return err
	}
	want(t, "by the file", try(&tls.Config{RootCAs: pool}), nil)
	want(t, "by a further name", try(&tls.Config{RootCAs: pool, ServerName: "wdatp-alertexporter-us.windows.com"}), nil)
	if try(&tls.Config{}) == nil {
		t.Error("the system's roots trust it")
	}
	if try(&tls.Config{RootCAs: pool, ServerName: "other.example"}) == nil {
		t.Error("another name was taken")
	}
	if try(&tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}) == nil {
		t.Error("TLS 1.1 was taken")
	}
	if err := srv.WriteCA(filepath.Join(file, "x")); err == nil {
		t.Error("a file that cannot be written was written")
	}
	res, err := client.Get(srv.AlertsURL())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	want(t, "protocol", res.Proto, "HTTP/1.1")
}

func TestLoginAndAPIAreApart(t *testing.T) {
	srv, client := startServer(t, New(Config{}), ServerOptions{})
	api := strings.TrimSuffix(srv.AlertsURL(), "/api/alerts")
	if api == srv.Authority() {
		t.Fatal("one port for both")
	}
	for _, u := range []string{
		srv.Authority() + "/api/alerts", strings.Replace(srv.TokenURL(), srv.Authority(), api, 1),
	} {
		res, err := client.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		want(t, u, res.StatusCode, 404)
	}
}

func TestPlainHTTP(t *testing.T) {
	srv, client := startServer(t, New(Config{}), ServerOptions{Plain: true})
	want(t, "scheme", strings.HasPrefix(srv.AlertsURL(), "http://127.0.0.1:"), true)
	res, err := client.PostForm(srv.TokenURL(), v1Form())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	want(t, "status", res.StatusCode, 200)
	if srv.WriteCA(filepath.Join(t.TempDir(), "ca")) == nil {
		t.Error("a plain server wrote a CA")
	}
}

func TestDownAndUp(t *testing.T) {
	svc := New(Config{})
	srv, client := startServer(t, svc, ServerOptions{})
	ask := func() error {
		res, err := client.PostForm(srv.TokenURL(), v1Form())
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	want(t, "up", ask(), nil)
	url := srv.AlertsURL()
	svc.Queue(KindAlerts, Hang(), EndlessHeader())
	var hanging sync.WaitGroup
	for range 2 {
		hanging.Go(func() {
			if res, err := client.Get(url); err == nil {
				res.Body.Close()
				t.Error("an answer came")
			}
		})
	}
	for svc.Stats().Alerts < 2 {
		runtime.Gosched()
	}
	srv.Down()
	hanging.Wait()
	if err := ask(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("down: %v", err)
	}
	if err := srv.Up(); err != nil {
		t.Fatal(err)
	}
	want(t, "up again", ask(), nil)
	want(t, "at the same address", srv.AlertsURL(), url)
	want(t, "up twice", srv.Up(), nil)
	if _, err := Start(svc, ServerOptions{API: strings.TrimPrefix(srv.Authority(), "https://")}); err == nil {
		t.Error("an address was taken twice")
	}
}

// TestALongAnswerNeedsNoMemory streams 256 MB of TLS; a GB differs in time only.
func TestALongAnswerNeedsNoMemory(t *testing.T) {
	const size = 256 << 20
	svc := New(Config{})
	srv, client := startServer(t, svc, ServerOptions{})
	req := must(http.NewRequest("GET", srv.AlertsURL(), nil))
	res, err := client.PostForm(srv.TokenURL(), v1Form())
	if err != nil {
		t.Fatal(err)
	}
	var tok struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&tok); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	req.Header.Set("Authorization", "Bearer "+tok.AccessToken)
	svc.Queue(KindAlerts, BigBody(size))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before, peak := heap(), uint64(0)
	if res, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var n int64
	for err == nil {
		var k int64
		k, err = io.CopyN(io.Discard, res.Body, 16<<20)
		n, peak = n+k, max(peak, heap())
	}
	want(t, "end", err, io.EOF)
	if n < size {
		t.Errorf("%d bytes", n)
	}
	if peak > before+16<<20 {
		t.Errorf("the heap grew by %d MB", (peak-before)>>20)
	}
}

func TestManyAtOnce(t *testing.T) {
	now := time.Now()
	svc := New(Config{Modes: Modes{Gzip: true, Order: Random}})
	srv, client := startServer(t, svc, ServerOptions{})
	gen := NewGenerator(source(1), Mix{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := &rig{T: t, svc: svc, http: client, v1: srv.TokenURL(), alerts: srv.AlertsURL(), srv: srv}
			for range 20 {
				if a := r.get("", "Accept-Encoding", "gzip"); a.status != 200 {
					t.Errorf("%d %v", a.status, a.err)
				}
				if i == 0 {
					svc.Add(gen.Alert(now))
					svc.SetModes(func(m *Modes) { m.Cap++ })
					svc.Ledger()
				}
			}
		})
	}
	wg.Wait()
	want(t, "requests", svc.Stats().Alerts, 160)
}
