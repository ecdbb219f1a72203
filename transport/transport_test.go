package transport

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/simtest"
)

// online starts a TLS server that gives out tokens at /token and lets alerts answer
// the rest, and returns it with a configuration that trusts it.
func online(t *testing.T, alerts http.HandlerFunc, change ...func(*httptest.Server)) (*httptest.Server, *conf.Config) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(w, simtest.TokenJSON(1))
	})
	mux.HandleFunc("/", alerts)
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, f := range change {
		f(srv)
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cfg := simtest.Settings()
	cfg.URL, cfg.TokenURL = srv.URL+"/api/alerts", srv.URL+"/token"
	cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(cfg.CAFile, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	return srv, cfg
}

func sendAlert(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, simtest.Alert) }

func TestOverTLS(t *testing.T) {
	var proto atomic.Value
	_, cfg := online(t, func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(simtest.Zip(simtest.Alert))
	}, func(s *httptest.Server) { s.EnableHTTP2 = true })
	c := connect(t, cfg, nil)
	if got, err := fetch(c); err != nil || got != simtest.Alert {
		t.Fatalf("got %q, %v", got, err)
	}
	if proto.Load() != "HTTP/1.1" {
		t.Errorf("spoke %v, want HTTP/1.1", proto.Load())
	}
}

func TestTrustIsChecked(t *testing.T) {
	f := func(name string, change func(*httptest.Server), adjust func(*conf.Config), want string) {
		t.Helper()
		srv, cfg := online(t, sendAlert, func(s *httptest.Server) {
			if change != nil {
				change(s)
			}
		})
		_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
		adjust(cfg)
		_, err := fetch(connect(t, cfg, nil))
		e := failure(t, err)
		if got := strings.ReplaceAll(e.Error(), port, "PORT"); e.Kind != KindConfig || got != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, got, want)
		}
	}
	const check = "check authority, token_url and cloud"
	f("unknown authority", nil, func(c *conf.Config) { c.CAFile = "" },
		"token request: the certificate of 127.0.0.1:PORT is signed by an authority this machine does not know; "+
			"if a proxy opens TLS here, name its certificate in ca_file; else "+check)
	f("TLS 1.1", func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	}, func(*conf.Config) {}, "token request: the TLS handshake with 127.0.0.1:PORT failed: protocol version not "+
		"supported; "+
		"it must speak TLS 1.2 or newer; "+check+", and for a proxy that opens TLS")
	f("another name", nil, func(c *conf.Config) {
		c.TokenURL = strings.Replace(c.TokenURL, "127.0.0.1", "localhost", 1)
	}, "token request: the certificate of localhost:PORT is for another name; "+check+", and for a proxy or DNS that "+
		"leads elsewhere")
}

func TestPlainServerBehindHTTPS(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(sendAlert))
	defer srv.Close()
	cfg := simtest.Settings()
	cfg.TokenURL = strings.Replace(srv.URL, "http:", "https:", 1)
	_, err := fetch(connect(t, cfg, nil))
	want := "token request: " + srv.Listener.Addr().String() + " does not speak TLS; check authority, token_url and " +
		"cloud and the scheme of proxy_url"
	if e := failure(t, err); e.Kind != KindConfig || e.Error() != want {
		t.Errorf("%v\n got %s\nwant %s", e.Kind, e, want)
	}
}

func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cfg := simtest.Settings()
	cfg.TokenURL = "https://" + l.Addr().String() + "/token"
	_, err = fetch(connect(t, cfg, nil))
	want := "token request: " + l.Addr().String() + " refused the connection; check authority, token_url and cloud " +
		"and the firewall; " +
		"where only a proxy reaches the internet, set proxy_url"
	if e := failure(t, err); e.Kind != KindNetwork || e.Error() != want {
		t.Errorf("%v\n got %s\nwant %s", e.Kind, e, want)
	}
}

func TestCAFile(t *testing.T) {
	dir := t.TempDir()
	f := func(name, content, want string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := simtest.Settings()
		cfg.CAFile = path
		if _, err := open(cfg, nil); err == nil || err.Error() != "ca_file "+path+want {
			t.Errorf("%s: %v", name, err)
		}
	}
	f("empty", "", " holds no certificate in PEM form")
	f("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", " holds no certificate in PEM form")
	f("large", strings.Repeat("a", maxCABytes+1), " is larger than 4 MiB: it should hold certificates only")
	cfg := simtest.Settings()
	cfg.CAFile = filepath.Join(dir, "missing")
	if _, err := open(cfg, nil); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "ca_file: open ") {
		t.Errorf("missing: %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv, cfg := online(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, status)
		})
		for _, key := range []string{"url", "token_url"} {
			cfg := *cfg
			if key == "token_url" {
				cfg.TokenURL = srv.URL + "/moved"
			}
			_, err := fetch(connect(t, &cfg, nil))
			if e := failure(t, err); e.Kind != KindConfig || e.Status != status {
				t.Errorf("%s, %d: %v", key, status, err)
			}
		}
	}
	if reached.Load() != 0 {
		t.Errorf("the other host got %d requests", reached.Load())
	}
}

func TestProxy(t *testing.T) {
	srv, cfg := online(t, sendAlert)
	var connects atomic.Int32
	var status atomic.Int32
	var seen atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		seen.Store(fmt.Sprint(r.Method, " ", r.Host, " ", r.Header.Get("Proxy-Authorization"),
			r.Header.Get("Authorization")))
		if s := status.Load(); s != 200 {
			w.WriteHeader(int(s))
			return
		}
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		down, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(up, buf); up.Close() }()
		io.Copy(down, up)
	}))
	defer proxy.Close()
	host := srv.Listener.Addr().String()
	at := proxy.Listener.Addr().String()

	t.Run("carries all", func(t *testing.T) {
		status.Store(200)
		cfg := *cfg
		cfg.ProxyURL = "http://me:hunter2hunter2@" + at
		c := connect(t, &cfg, nil)
		if got, err := fetch(c); err != nil || got != simtest.Alert {
			t.Fatalf("got %q, %v", got, err)
		}
		if connects.Load() == 0 || seen.Load() != "CONNECT "+host+" Basic bWU6aHVudGVyMmh1bnRlcjI=" {
			t.Errorf("%d connects, the last %v", connects.Load(), seen.Load())
		}
		c.Close()
	})
	f := func(code int, kind Kind, want string) {
		t.Helper()
		status.Store(int32(code))
		cfg := *cfg
		cfg.ProxyURL = "http://me:hunter2hunter2@" + at
		_, err := fetch(connect(t, &cfg, nil))
		e := failure(t, err)
		if got := strings.ReplaceAll(e.Error(), host, "HOST"); e.Kind != kind || e.Status != code || got != want {
			t.Errorf("%d: %v %d\n got %s\nwant %s", code, e.Kind, e.Status, got, want)
		}
	}
	f(407, KindConfig, "token request: the proxy wants a user name and password (407); "+
		"put them into the address in the variable HTTPS_PROXY, and leave proxy_url out")
	f(403, KindConfig, "token request: the proxy refuses a connection to HOST (403); check proxy_url and the "+
		"proxy's rules")
	f(502, KindNetwork, "token request: the proxy cannot reach HOST (502); check proxy_url and the proxy's rules")

	t.Run("not there", func(t *testing.T) {
		proxy.Close()
		cfg := *cfg
		cfg.ProxyURL = "http://me:hunter2hunter2@" + at
		_, err := fetch(connect(t, &cfg, nil))
		e := failure(t, err)
		for sub := err; sub != nil; sub = errors.Unwrap(sub) {
			if strings.Contains(sub.Error(), "hunter2") {
				t.Errorf("%q shows the proxy's password", sub)
			}
		}
		if want := "token request: the proxy refused the connection; check proxy_url"; e.Kind != KindNetwork ||
			e.Error() != want {
			t.Errorf("%v\n got %s\nwant %s", e.Kind, e, want)
		}
	})
}

// Plain http is allowed on loopback because nobody else hears it there.
func TestPlainHTTPNeverGoesThroughAProxy(t *testing.T) {
	choose, err := proxyFor("http://proxy.test:3128")
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"http://127.0.0.1/token": "",
		"https://127.0.0.1/token": "http://proxy.test:3128"} {
		u, _ := url.Parse(address)
		got, err := choose(&http.Request{URL: u})
		if err != nil || (got == nil) != (want == "") || (got != nil && got.String() != want) {
			t.Errorf("%s goes through %v, %v, want %q", address, got, err, want)
		}
	}
}

func TestEndlessHeads(t *testing.T) {
	f := func(name, first, more string) {
		t.Helper()
		addr := simtest.Listen(t, func(nc net.Conn) {
			nc.Read(make([]byte, 4096))
			io.WriteString(nc, first)
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(nc, more, i); err != nil {
					return
				}
			}
		})
		cfg := simtest.Settings()
		cfg.TokenURL = "http://" + addr + "/token"
		c := connect(t, cfg, nil)
		_, err := fetch(c)
		want := "token request: the head of the answer from " + addr + " is larger than 64 KiB; check authority, " +
			"token_url and cloud and proxy_url"
		if e := failure(t, err); e.Kind != KindService || e.Error() != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, e, want)
		}
	}
	f("headers", "HTTP/1.1 200 OK\r\n", "X-%d: y\r\n")
	f("one header", "HTTP/1.1 200 OK\r\nX: ", "%d")
	f("informational answers", "", "HTTP/1.1 103 Early Hints\r\nX: %d\r\n\r\n")
}

func TestTimeoutsOnTheWire(t *testing.T) {
	f := func(name string, serve func(net.Conn), scheme string, proxy bool, want string) {
		t.Helper()
		addr := simtest.Listen(t, serve)
		cfg := simtest.Settings()
		cfg.ConnectTimeout, cfg.ReadTimeout = 150*time.Millisecond, 250*time.Millisecond
		cfg.TokenURL = scheme + "://" + addr + "/token"
		if proxy {
			cfg.ProxyURL, cfg.TokenURL = "http://"+addr, "https://login.test/token"
		}
		_, err := fetch(connect(t, cfg, nil))
		e := failure(t, err)
		if got := strings.ReplaceAll(e.Error(), addr, "HOST"); e.Kind != KindNetwork || got != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, got, want)
		}
	}
	hang := func(nc net.Conn) { io.Copy(io.Discard, nc) }
	const firewall = " within 150ms (connect_timeout); check the firewall and authority, token_url and cloud; " +
		"where only a proxy reaches the internet, set proxy_url"
	f("no TLS handshake", hang, "https", false, "token request: no connection to HOST"+firewall)
	f("a proxy that never answers", hang, "https", true, "token request: no connection to login.test"+firewall)
	f("no answer", hang, "http", false, "token request: no answer from HOST within 250ms (read_timeout); if it "+
		"lasts, raise read_timeout")
	f("a head that drips", func(nc net.Conn) {
		nc.Read(make([]byte, 4096))
		io.WriteString(nc, "HTTP/1.1 200 OK\r\n")
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(nc, "X: y\r\n"); err != nil {
				return
			}
		}
	}, "http", false, "token request: no answer from HOST within 250ms (read_timeout); if it lasts, raise read_timeout")
}

func TestWhatIsNotHTTP(t *testing.T) {
	f := func(name, answer, want string) {
		t.Helper()
		addr := simtest.Listen(t, func(nc net.Conn) {
			nc.Read(make([]byte, 4096))
			io.WriteString(nc, answer)
			nc.Close()
		})
		cfg := simtest.Settings()
		cfg.TokenURL = "http://" + addr + "/token"
		_, err := fetch(connect(t, cfg, nil))
		e := failure(t, err)
		if got := strings.ReplaceAll(e.Error(), addr, "HOST"); e.Kind != KindNetwork || got != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, e.Kind, got, want)
		}
	}
	const strange = "token request: the answer from HOST is not HTTP; check authority, token_url and cloud " +
		"and proxy_url"
	f("mail", "220 mail.test ESMTP "+simtest.Secret+"\r\n", strange)
	f("a header without a colon", "HTTP/1.1 200 OK\r\n"+simtest.Secret+"\r\n\r\n", strange)
	f("nothing", "", "token request: HOST closed the connection before it answered; "+
		"if it lasts, look for a firewall or proxy that cuts connections")
}

func TestCutConnections(t *testing.T) {
	for name, head := range map[string]string{
		"chunked":        "Transfer-Encoding: chunked\r\n\r\n2\r\n[{\r\n",
		"in a chunk":     "Transfer-Encoding: chunked\r\n\r\nff\r\n[{",
		"content length": "Content-Length: 100\r\n\r\n[{",
	} {
		t.Run(name, func(t *testing.T) {
			_, cfg := online(t, func(w http.ResponseWriter, _ *http.Request) {
				nc, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(nc, "HTTP/1.1 200 OK\r\n"+head)
				nc.Close()
			})
			got, err := fetch(connect(t, cfg, nil))
			if got != "[{" || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(),
				"alerts request: answer cut after 2 ") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestConnectionsAreReusedOnlyAfterAWholeAnswer(t *testing.T) {
	f := func(name string, size int, read func(io.Reader), want int32) {
		t.Helper()
		var conns atomic.Int32
		_, cfg := online(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, size))
		}, func(s *httptest.Server) {
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					conns.Add(1)
				}
			}
		})
		c := connect(t, cfg, nil)
		for range 3 {
			a, err := c.fetch(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			read(a)
			a.Close()
		}
		if conns.Load() != want {
			t.Errorf("%s: %d connections for a token and 3 answers, want %d", name, conns.Load(), want)
		}
	}
	f("read to the end", 1<<20, func(r io.Reader) { io.Copy(io.Discard, r) }, 1)
	f("left in the middle", 16<<20, func(r io.Reader) { r.Read(make([]byte, 1)) }, 3)
}

// A stanza of many tenants asks in bursts: no handshake but for the first.
func TestABurstReusesTheConnectionsOfTheOneBefore(t *testing.T) {
	const burst = 20
	var conns atomic.Int32
	var waiting sync.WaitGroup
	_, cfg := online(t, func(w http.ResponseWriter, r *http.Request) {
		waiting.Done()
		waiting.Wait() // so that all are under way at once
		sendAlert(w, r)
	}, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
	})
	login, _ := online(t, sendAlert) // another host
	cfg.TokenURL = login.URL + "/token"
	c := connect(t, cfg, nil)
	for i := range 3 {
		waiting.Add(burst)
		errs := make(chan error, burst)
		for range burst {
			go func() { _, err := fetch(c); errs <- err }()
		}
		for range burst {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		if n := conns.Load(); n != burst {
			t.Fatalf("%d connections after %d bursts of %d requests", n, i+1, burst)
		}
	}
}

func TestCloseEndsWhatHangs(t *testing.T) {
	entered := make(chan struct{}, 1)
	_, cfg := online(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("["))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	silent := simtest.Listen(t, func(nc net.Conn) { entered <- struct{}{}; io.Copy(io.Discard, nc) })
	t.Run("in a body", func(t *testing.T) {
		c := connect(t, cfg, nil)
		a, err := c.fetch(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if _, err := a.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(20*time.Millisecond, c.Close)
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("in a TLS handshake", func(t *testing.T) {
		cfg := *cfg
		cfg.TokenURL = "https://" + silent + "/token"
		c := connect(t, &cfg, nil)
		go func() { <-entered; c.Close() }()
		if _, err := c.fetch(context.Background()); !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

// A thousand tenants behind one host: what they share is opened once, and closed with the last of them.
func TestClientsShareTheirTransport(t *testing.T) {
	_, cfg := online(t, sendAlert)
	login, _ := online(t, sendAlert) // another host
	cfg.TokenURL = login.URL + "/token"
	var all []*caller
	for range 20 {
		c, err := open(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		if _, err := fetch(c); err != nil {
			t.Fatal(err)
		}
	}
	conns := func() (open, used int) {
		transports.Lock()
		defer transports.Unlock()
		for _, wire := range transports.of {
			wire.mu.Lock()
			open += len(wire.conns)
			wire.mu.Unlock()
		}
		return open, len(transports.of)
	}
	if open, used := conns(); open != 2 || used != 1 {
		t.Errorf("%d connections of %d transports for 20 clients", open, used)
	}
	other := *cfg
	other.ReadTimeout *= 2
	c, err := open(&other, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.Close() // again
	for i, c := range all {
		if _, used := conns(); used != 1 {
			t.Fatalf("%d transports before client %d was closed", used, i)
		}
		c.Close()
		if _, err := fetch(c); !errors.Is(err, ErrClosed) {
			t.Errorf("client %d is closed: %v", i, err)
		}
	}
	if open, used := conns(); open != 0 || used != 0 {
		t.Errorf("%d connections of %d transports are left", open, used)
	}
}
