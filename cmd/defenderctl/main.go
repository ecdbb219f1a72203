// Command defenderctl is the operator's tool of the defender input: it checks a configuration as far as to one answer
// of the service, logs a user in, pulls alerts as JSON lines, and shows and resets what the plugin remembers. It
// reads the same stanzas as the plugin, by the same code (conf, client, pull, state), and needs no cgo.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends what is under way; the second ends the process.
	context.AfterFunc(ctx, stop)
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		outTTY: terminal(os.Stdout), errTTY: terminal(os.Stderr), inTTY: terminal(os.Stdin),
		env: os.LookupEnv, now: time.Now, browse: browse,
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}
