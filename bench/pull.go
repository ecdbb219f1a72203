package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fluent-bit-defender/client"
	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// service is the simulated service in a process of its own, so that its work does not count as ours.
type service struct {
	cmd                   *exec.Cmd
	stop                  io.Closer
	Alerts, Token, CAFile string
}

// startService runs this program again as the service; size is the length of its one answer in bytes.
func startService(size int64, plainHTTP, gzip bool) (*service, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	s := &service{cmd: exec.Command(self, "-serve", strconv.FormatInt(size, 10), fmt.Sprintf("-plain=%v", plainHTTP),
		fmt.Sprintf("-gzip=%v", gzip), "-ca", filepath.Join(dir, "ca.pem"))}
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.stop = stdin
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	return s, json.NewDecoder(out).Decode(s)
}

func (s *service) close() { s.stop.Close(); s.cmd.Wait() }

// serve is the other side of startService. The answer is made before anyone asks; it is the same for each request.
func serve(size int64, plainHTTP, gzip bool, ca string) error {
	svc := defendersim.New(defendersim.Config{Modes: defendersim.Modes{Gzip: gzip, ContentLength: !gzip}})
	body := seedLike(int(size/rowLike) + 1).body
	page := defendersim.Page("sample", "application/json", func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	})
	if gzip {
		body = gzipped(body)
		page.Encoded = true
	}
	first := true
	svc.OnRequest(func(r defendersim.Request) *defendersim.Fault {
		if r.Kind != defendersim.KindAlerts || r.Query.Limit == 1 || !first { // a limit of 1: for the Date alone
			return nil
		}
		first = false
		return page
	})
	srv, err := defendersim.Start(svc, defendersim.ServerOptions{Plain: plainHTTP})
	if err != nil {
		return err
	}
	defer srv.Close()
	if !plainHTTP {
		if err := srv.WriteCA(ca); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(service{Alerts: srv.AlertsURL(), Token: srv.TokenURL(),
		CAFile: ca}); err != nil {
		return err
	}
	io.Copy(io.Discard, os.Stdin) // until the other side ends
	return nil
}

// pulled is what one whole pull took.
type pulled struct {
	rows      uint64
	bytes     uint64
	cpu, wall time.Duration
}

var pullsMade int

// pullOnce runs the real engine and client against the service until its one answer was delivered.
func pullOnce(s *service, rows uint64) (pulled, error) {
	text := map[string]string{
		"tenant_id": defendersim.DefaultTenant, "client_id": defendersim.DefaultClientID,
		"client_secret": defendersim.DefaultSecret,
		"url":           s.Alerts, "token_url": s.Token, "poll_interval": "1h", "max_window": "1d",
	}
	if strings.HasPrefix(s.Alerts, "https:") {
		text["ca_file"] = s.CAFile
	}
	cfg, err := conf.Load(func(key string) string { return text[key] }, os.Getenv)
	if err != nil {
		return pulled{}, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	c, err := client.New(cfg, client.WithLogger(log))
	if err != nil {
		return pulled{}, err
	}
	// the process keeps what is in memory: a tenant of its own for each pull, since a service's port may come again
	pullsMade++
	st, err := state.OpenMemory(state.Key{API: "siem", Place: s.Alerts, Tenant: strconv.Itoa(pullsMade)})
	if err != nil {
		return pulled{}, err
	}
	source, err := pull.NewSource(cfg, c, nil, st, log)
	if err != nil {
		return pulled{}, err
	}
	e := pull.NewRunner(pull.OptionsOf(cfg, log))
	if err := e.Add(source); err != nil {
		return pulled{}, err
	}
	cpu, began := cpuTime(), time.Now()
	e.Start()
	for e.Stats().Delivered < rows {
		if b := e.Take(); b != nil {
			e.Done(b)
		} else {
			time.Sleep(time.Millisecond)
		}
		if time.Since(began) > 5*time.Minute {
			return pulled{}, fmt.Errorf("%d of %d rows after five minutes", e.Stats().Delivered, rows)
		}
	}
	p := pulled{rows: e.Stats().Delivered, bytes: e.Stats().BytesRead, cpu: cpuTime() - cpu, wall: time.Since(began)}
	return p, e.Stop(context.Background())
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func gzipped(text []byte) []byte {
	var b bytes.Buffer
	w := newGzipWriter(&b)
	w.Write(text)
	w.Close()
	return b.Bytes()
}
