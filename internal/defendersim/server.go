package defendersim

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// ServerOptions say where a Server listens. The zero value: TLS on loopback, ports chosen by the kernel.
type ServerOptions struct {
	Login, API string   // listening addresses; "": 127.0.0.1:0
	Identity   string   // of the metadata service
	Plain      bool     // plain http, for measurements
	Names      []string // DNS names of the certificate beside localhost
}

// Server puts a Service behind real connections: login, API and metadata service on ports of their own, as the real
// hosts are apart; the metadata service speaks plain http, as the real one. It speaks HTTP/1.1, which raw faults
// need. All methods may be called from anywhere.
type Server struct {
	tenant string     // of TokenURL
	ca     *authority // nil: plain
	login  *endpoint
	api    *endpoint
	ident  *endpoint
}

// endpoint is one listening address. It can go down and up again at the same port.
type endpoint struct {
	handler http.Handler
	tls     *tls.Config

	mu      sync.Mutex
	addr    string // fixed by the first listen
	server  *http.Server
	cancel  context.CancelFunc // ends requests under way
	running *gate              // Serve and handlers
}

// gate counts what runs, and lets nothing in once it is closed: a WaitGroup alone forbids to begin while one waits.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) leave() { g.inside.Done() }

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}

// Start listens and serves until Close.
func Start(s *Service, o ServerOptions) (*Server, error) { return start(s.serve, s.cfg.Tenant, o) }

// start serves by serve, which knows only requests of the given kinds.
func start(
	serve func(w http.ResponseWriter, r *http.Request, kinds ...Kind), tenant string, o ServerOptions,
) (*Server, error) {
	srv := &Server{tenant: tenant}
	var conf *tls.Config
	if !o.Plain {
		ca, err := newAuthority(o.Names)
		if err != nil {
			return nil, err
		}
		srv.ca = ca
		conf = &tls.Config{Certificates: []tls.Certificate{ca.leaf}, MinVersion: tls.VersionTLS12}
	}
	only := func(kinds ...Kind) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, kinds...) })
	}
	srv.login = &endpoint{handler: only(KindToken, KindAuthorize), tls: conf, addr: o.Login}
	srv.api = &endpoint{handler: only(KindAlerts, KindGraph), tls: conf, addr: o.API}
	srv.ident = &endpoint{handler: only(KindIdentity), addr: o.Identity}
	if err := srv.Up(); err != nil {
		srv.Close()
		return nil, err
	}
	return srv, nil
}

// Up listens again after Down, at the same addresses. A Server that is up stays as it is.
func (s *Server) Up() error { return errors.Join(s.login.up(), s.api.up(), s.ident.up()) }

// Down closes all listeners and every connection and waits for the requests under way: connections are now refused.
func (s *Server) Down() { s.login.down(); s.api.down(); s.ident.down() }

// Close is Down for good. The Service stays usable.
func (s *Server) Close() { s.Down() }

func (e *endpoint) up() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		return nil
	}
	addr := e.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("simulated service: %w", err)
	}
	e.addr = l.Addr().String()
	if e.tls != nil {
		l = tls.NewListener(l, e.tls)
	}
	ctx, cancel := context.WithCancel(context.Background())
	running := &gate{}
	e.cancel, e.running = cancel, running
	e.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !running.enter() {
				panic(http.ErrAbortHandler)
			}
			defer running.leave()
			e.handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          log.New(io.Discard, "", 0), // broken connections are what this is for
		ReadHeaderTimeout: time.Minute,
	}
	running.enter()
	go func(server *http.Server) {
		defer running.leave()
		server.Serve(l) // ends with http.ErrServerClosed, by down
	}(e.server)
	return nil
}

func (e *endpoint) down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server == nil {
		return
	}
	e.cancel()
	e.server.Close()
	e.server = nil
	e.running.close()
}

func (e *endpoint) base() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.tls == nil {
		return "http://" + e.addr
	}
	return "https://" + e.addr
}

// Authority is the address of the login side, as a reader's authority.
func (s *Server) Authority() string { return s.login.base() }

// TokenURL is the v1 token endpoint of the service's tenant; of a Fleet none, as for TokenURLV2.
func (s *Server) TokenURL() string { return s.login.base() + "/" + s.tenant + "/oauth2/token" }

// TokenURLV2 is the v2 token endpoint of the service's tenant.
func (s *Server) TokenURLV2() string {
	return s.login.base() + "/" + s.tenant + "/oauth2/v2.0/token"
}

// IdentityURL is the metadata service's endpoint for tokens of managed identities.
func (s *Server) IdentityURL() string { return s.ident.base() + "/metadata/identity/oauth2/token" }

// AlertsURL is the SIEM API.
func (s *Server) AlertsURL() string { return s.api.base() + "/api/alerts" }

// GraphURL is Microsoft Graph's alerts, on the same host as the SIEM API.
func (s *Server) GraphURL() string { return s.api.base() + graphPath }

// WriteCA writes the certificate of the server's CA, as PEM. A plain server has none.
func (s *Server) WriteCA(path string) error {
	if s.ca == nil {
		return errors.New("simulated service: a plain server has no CA")
	}
	if err := os.WriteFile(path, s.ca.pem(), 0o644); err != nil {
		return fmt.Errorf("CA of the simulated service: %w", err)
	}
	return nil
}

// TLSConfig is a client's configuration that trusts the server's CA and nobody else.
func (s *Server) TLSConfig() *tls.Config {
	pool := x509.NewCertPool()
	if s.ca != nil {
		pool.AddCert(s.ca.cert)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
