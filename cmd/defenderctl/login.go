package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/entra"
)

// loginOptions are the flags of login.
type loginOptions struct {
	config, stanza string
	tenant         string
	port           int
	noBrowser      bool
	limit          time.Duration
}

func (a *app) loginCommand() *cobra.Command {
	var o loginOptions
	c := &cobra.Command{
		Use:   "login -c FILE",
		Short: "Log a user in for a stanza with auth authorization_code",
		Long: "login lets a person sign in at Entra ID in a browser, " +
			"and writes the refresh token that comes of it into the stanza's\n" +
			"refresh_token_file, readable for its owner only. " +
			"Run it as the user that Fluent Bit runs as. Fluent Bit may be running: it finds\n" +
			"the new login at its next attempt.\n\n" +
			"The browser comes back to this machine's loopback interface (http://localhost:PORT/), " +
			"so it must run here, or reach it here: from\n" +
			"elsewhere, choose a port by --port and forward it, as by ssh -L 8400:localhost:8400.\n\n" +
			"In Entra ID the application needs the redirect URI http://localhost " +
			"under mobile and desktop applications. Entra ID takes it for a\n" +
			"public client then and wants no client secret, even if it has one for other uses: " +
			"a login sends none, so that a person's login\n" +
			"does not end when a secret does.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd.Context(), o) },
	}
	c.Flags().StringVarP(&o.config, "config", "c", "", "Fluent Bit's configuration `FILE`, classic or YAML")
	c.Flags().StringVar(&o.stanza, "stanza", "", stanzaHelp)
	c.Flags().StringVar(&o.tenant, "tenant", "", tenantHelp)
	c.Flags().IntVar(&o.port, "port", 0, "the loopback `PORT` the browser comes back to (default: a free one)")
	c.Flags().BoolVar(&o.noBrowser, "no-browser", false, "print the address only")
	c.Flags().DurationVar(&o.limit, "timeout", 10*time.Minute, "longest `TIME` to wait for the person")
	return c
}

func (a *app) login(ctx context.Context, o loginOptions) error {
	if o.port < 0 || o.port > 65535 {
		return usagef("--port %d is no port", o.port)
	}
	s, cfg, err := a.oneTenant(o.config, o.stanza, o.tenant)
	if err != nil {
		return err
	}
	if cfg.Auth != conf.AuthorizationCode {
		return fmt.Errorf("stanza %s has auth %s: only authorization_code has a login", s.name, cfg.Auth)
	}
	if dir := filepath.Dir(cfg.RefreshTokenFile); unix.Access(dir, unix.W_OK|unix.X_OK) != nil {
		if !conf.PathShown(cfg.RefreshTokenFile) { // it may be a token
			return errors.New("refresh_token_file: the directory of the file named there (not shown) is not there, " +
				"or not writable for this user; the key takes the path of a file")
		}
		return fmt.Errorf("refresh_token_file: its directory %s is not there, or not writable for this user", dir)
	}
	listeners, err := loopback(o.port)
	if err != nil {
		return err
	}
	port := listeners[0].Addr().(*net.TCPAddr).Port
	l, err := client.NewLogin(cfg, port, append([]client.Option{client.WithLogger(a.logger())}, a.client...)...)
	if err != nil {
		for _, open := range listeners {
			open.Close()
		}
		return fmt.Errorf("stanza %s: %w", s.name, err)
	}
	defer l.Close()
	late := fmt.Errorf("nobody came back from the login within %s (--timeout)", o.limit)
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, late)
	defer cancel()
	in, err := a.await(ctx, l, listeners, !o.noBrowser)
	if err != nil {
		return err
	}
	if err := credential.WriteRefreshToken(cfg.RefreshTokenFile, in.RefreshToken); err != nil {
		return err
	}
	who := cmp.Or(in.Claims.User, "the user")
	fmt.Fprintf(a.out, "%s is logged in for stanza %s: %s is written\n", who, s.name, cfg.RefreshTokenFile)
	for _, d := range l.Doubts(in.Claims) {
		fmt.Fprintf(a.err, "defenderctl: but the token %s; %s\n", d.What, d.Remedy)
	}
	return nil
}

// loopback listens on one port of both loopback addresses, as localhost may be either; port 0 is a free one.
func loopback(port int) ([]net.Listener, error) {
	four, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("the browser cannot come back: %w; choose another --port", err)
	}
	listeners := []net.Listener{four}
	port = four.Addr().(*net.TCPAddr).Port
	if six, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(port))); err == nil {
		listeners = append(listeners, six)
	}
	return listeners, nil
}

// await shows the person the way and serves the browser until it brings a code, or an error, or the time is over. It
// closes the listeners.
func (a *app) await(
	ctx context.Context, l *entra.Login, listeners []net.Listener, browser bool,
) (*entra.LoggedIn, error) {
	type outcome struct {
		in  *entra.LoggedIn
		err error
	}
	came := make(chan outcome, 1)
	var mu sync.Mutex // a browser may ask twice at once
	var last *outcome
	back := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/" {
				http.NotFound(w, r) // favicon.ico
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if last == nil {
				in, err := l.Redeem(ctx, r.URL.Query())
				if errors.Is(err, entra.ErrNotOurs) {
					show(w, http.StatusBadRequest, "This page belongs to another login.")
					return
				}
				last = &outcome{in, err}
				came <- *last
			}
			if last.err != nil {
				show(w, http.StatusOK, "The login failed: "+last.err.Error())
				return
			}
			show(w, http.StatusOK, "You are logged in, and can close this page.")
		}),
	}
	served := make(chan struct{}, len(listeners))
	for _, open := range listeners {
		go func() {
			_ = back.Serve(open) // ends by Shutdown
			served <- struct{}{}
		}()
	}
	defer func() {
		// The page is to arrive before this process ends.
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if back.Shutdown(ending) != nil {
			back.Close()
		}
		for range listeners {
			<-served
		}
	}()
	a.lead(l.URL(), browser)
	select {
	case o := <-came:
		return o.in, o.err
	case <-ctx.Done():
		err := context.Cause(ctx)
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted: nothing was written")
		}
		return nil, err
	}
}

// ownLogin refuses to use the login of another user: what is written beside it would be ours, and Fluent Bit locked
// out.
func ownLogin(cfg *conf.Config) error {
	info, err := os.Stat(cfg.RefreshTokenFile)
	if cfg.Auth != conf.AuthorizationCode || err != nil {
		return nil // what is wrong with the file is told by who opens it
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("refresh_token_file: %s belongs to another user (%d): run this as that user",
			cfg.RefreshTokenFile, st.Uid)
	}
	return nil
}

// lead opens the page in a browser, and prints its address in any case.
func (a *app) lead(address string, browser bool) {
	if browser {
		if err := a.browse(address); err == nil {
			fmt.Fprintf(a.err, "Sign in in the browser that opens. "+
				"If none does, open this address in one on this machine:\n%s\n", address)
			return
		}
	}
	fmt.Fprintf(a.err, "Open this address in a browser on this machine:\n%s\n", address)
}

// browse opens an address in the desktop's browser. It does not wait for it.
func browse(address string) error {
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return errors.New("there is no desktop")
	}
	if u, err := url.Parse(address); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("no address for a browser")
	}
	path, err := exec.LookPath("xdg-open")
	if err != nil {
		return err
	}
	cmd := exec.Command(path, address) // without the terminal: a browser in it would hide what we print
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // the browser may outlive us
	return nil
}

var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>defenderctl</title></head><body><p>{{.}}</p></body></html>
`))

func show(w http.ResponseWriter, status int, text string) {
	// The address in the browser holds the code: no other page may learn it.
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	_ = page.Execute(w, strings.TrimSpace(text)) // the browser may be gone
}
