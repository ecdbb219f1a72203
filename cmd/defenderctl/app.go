package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fluent-bit-defender/client"
)

// Exit codes, for scripts.
const (
	exitOK       = 0
	exitFindings = 1 // check found something, or what was asked for failed
	exitUsage    = 2 // the command line makes no sense
)

// app is one run of the tool and all that it touches of the world.
type app struct {
	in                    io.Reader
	out, err              io.Writer
	inTTY, outTTY, errTTY bool
	env                   func(name string) (string, bool)
	now                   func() time.Time
	browse                func(url string) error // opens a browser, or says why it cannot
	client                []client.Option        // of tests
}

// stanzaHelp and tenantHelp are of the flags --stanza and --tenant of commands for one stanza.
const (
	stanzaHelp = "the `NAME` of the stanza (its alias, else defender.N), where there are several"
	tenantHelp = "the `NAME` or id of one tenant, where the stanza has tenants_file"
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errFindings: all was said already, only the exit code remains.
var errFindings = errors.New("findings")

// run carries out one command line and returns the exit code. An error is one line on stderr.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for the arguments of the process
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errFindings):
		return exitFindings
	}
	fmt.Fprintln(a.err, "defenderctl: "+oneLine(err.Error()))
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitFindings
}

// oneLine joins the lines of an error, such as the faults of a stanza.
func oneLine(text string) string {
	breaks := func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }
	return strings.Join(strings.FieldsFunc(text, breaks), "; ")
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "defenderctl",
		Short: "The operator's tool of the defender input of Fluent Bit",
		Long: "defenderctl checks configurations of the defender input, logs users in, pulls alerts, " +
			"and shows what the plugin remembers.\n\n" +
			"It reads Fluent Bit's own configuration, classic or YAML, with includes and variables. " +
			"Variables come from the environment of\n" +
			"defenderctl: run it with the environment that Fluent Bit gets. No command prints a secret.\n\n" +
			"Exit codes: 0 all is well; 1 something was found or failed; 2 the command line is wrong.",
		Version:       client.Version,
		SilenceErrors: true, SilenceUsage: true,
		DisableSuggestions: true,
		Args:               noArgs,
		RunE:               func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetVersionTemplate("defenderctl {{.Version}}\n")
	root.AddCommand(a.checkCommand(), a.loginCommand(), a.pullCommand(), a.stateCommand(), a.manCommand())
	return root
}

func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q is no command or flag here; see --help", clip(args[0]))
	}
	return nil
}

func clip(text string) string {
	if len(text) > 60 {
		return strings.ToValidUTF8(text[:57], "") + "..."
	}
	return text
}

// terminal tells whether f is one.
func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
