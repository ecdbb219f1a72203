// Command demo shows records coming out of the real shared object: it starts the simulated service on loopback, with
// some alerts of either API and a few more every second, runs the plugin in Fluent Bit where there is one, else in
// the bundled host, and prints records as JSON lines on stdout until it is interrupted or its seconds are over.
// Everything else goes to stderr.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

func main() {
	so := flag.String("so", "build/in_defender.so", "the shared object")
	api := flag.String("api", "siem", "the API: siem or graph")
	format := flag.String("format", "native", "the format of the records")
	seconds := flag.Int("seconds", 0, "end after so many seconds; 0: at Ctrl-C")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if *seconds > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
		defer cancel()
	}
	if err := run(ctx, *so, *api, *format); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, so, api, format string) error {
	feed, known := feeds[api]
	if !known {
		return fmt.Errorf("api %q is not known: use siem or graph", api)
	}
	so, err := filepath.Abs(so)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "defender-demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	svc := defendersim.New(defendersim.Config{Seed: uint64(time.Now().UnixNano()),
		Modes: defendersim.Modes{Gzip: true}})
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{})
	if err != nil {
		return err
	}
	defer srv.Close()
	ca := filepath.Join(dir, "ca.pem")
	if err := srv.WriteCA(ca); err != nil {
		return err
	}
	url, token := srv.AlertsURL(), srv.TokenURL()
	if api == "graph" {
		url, token = srv.GraphURL(), srv.TokenURLV2()
	}
	go feed(ctx, svc)
	input := fmt.Sprintf(`[INPUT]
    name          defender
    tag           defender
    api           %s
    format        %s
    tenant_id     %s
    client_id     %s
    client_secret %s
    url           %s
    token_url     %s
    ca_file       %s
    db            %s
    poll_interval 1s
    overlap       15s
`, api, format, defendersim.DefaultTenant, defendersim.DefaultClientID, defendersim.DefaultSecret, url, token, ca,
		filepath.Join(dir, "defender.db"))
	if program := fluentBit(); program != "" {
		fmt.Fprintf(os.Stderr, "demo: running the plugin in %s\n", program)
		return inFluentBit(ctx, program, so, dir, input)
	}
	fmt.Fprintln(os.Stderr, "demo: no Fluent Bit (FLUENT_BIT, or fluent-bit on PATH): running the plugin in the "+
		"bundled host")
	return inHost(ctx, so, input)
}

// fluentBit is the Fluent Bit to use: FLUENT_BIT, else the one on PATH, else none.
func fluentBit() string {
	program := os.Getenv("FLUENT_BIT")
	if program == "" {
		program = "fluent-bit"
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	return path
}

func inFluentBit(ctx context.Context, program, so, dir, input string) error {
	conf := filepath.Join(dir, "fluent-bit.conf")
	text := "[SERVICE]\n    flush 0.5\n    grace 1\n    log_level info\n\n" + input +
		"\n[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_format iso8601\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-e", so, "-c", conf)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it once, by way of ctx
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil // it was asked to end
	}
	return err
}

func inHost(ctx context.Context, so, input string) error {
	host, err := flbhost.Start(flbhost.Options{
		Plugin: so, Config: input, Stderr: os.Stderr,
		OnRecord: func(r flbhost.Record) {
			if line, err := r.JSON(); err == nil {
				fmt.Printf("%s\n", line)
			}
		},
	})
	if err != nil {
		return err
	}
	defer host.Close()
	ended := make(chan error, 1)
	go func() { ended <- host.Wait(365 * 24 * time.Hour) }()
	select {
	case err := <-ended:
		return fmt.Errorf("the host ended: %w", err)
	case <-ctx.Done():
		return host.Stop(10 * time.Second)
	}
}
