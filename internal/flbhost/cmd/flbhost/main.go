// Command flbhost runs the plugin in the host that stands in for Fluent Bit: records go to stdout as JSON lines, in the
// form of Fluent Bit's stdout output, the log goes to stderr. It runs until SIGINT or SIGTERM.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"fluent-bit-defender/internal/flbhost"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flbhost:", err)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			os.Exit(exit.ExitCode())
		}
		os.Exit(1)
	}
}

func run() error {
	var o flbhost.Options
	config := flag.String("config", "", "file in the classic format: its [SERVICE] and [INPUT] sections count")
	flag.StringVar(&o.Plugin, "plugin", "", "path of the .so")
	flag.StringVar(&o.Core, "core", "", "version of Fluent Bit to be (5.1.1)")
	flag.DurationVar(&o.Interval, "interval", time.Second, "between two callbacks")
	flag.Parse()
	if o.Plugin == "" || *config == "" || flag.NArg() > 0 {
		return errors.New("usage: flbhost -plugin FILE.so -config FILE [-core VERSION] [-interval DURATION]")
	}
	text, err := os.ReadFile(*config)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	o.Config, o.Stderr = string(text), os.Stderr
	o.OnRecord = func(r flbhost.Record) {
		line, err := r.JSON()
		if err != nil {
			line = fmt.Appendf(nil, `{"error":%q}`, err)
		}
		out.Write(append(line, '\n'))
		out.Flush()
	}
	// Ctrl-C reaches the host as well, and it stops by itself.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	h, err := flbhost.Start(o)
	if err != nil {
		return err
	}
	defer h.Close()
	ended := make(chan error, 1)
	go func() { ended <- h.Wait(1 << 62) }()
	select {
	case err = <-ended:
	case <-signals:
		err = h.Stop(15 * time.Second)
	}
	h.Look(func(v *flbhost.View) {
		for _, s := range v.Sins {
			fmt.Fprintln(os.Stderr, "flbhost: the plugin did wrong:", s)
		}
		if len(v.Sins) > 0 && err == nil {
			err = errors.New("the plugin did wrong")
		}
	})
	return err
}
