package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// options are the command line.
type options struct {
	config      defendersim.Config
	server      defendersim.ServerOptions
	mix         defendersim.Mix
	ca          string
	native      string
	identity    string
	urlFile     string
	ledger      string
	rate        float64
	initial     int
	initialSpan time.Duration
	example     bool
	faults      []string
	faultShare  float64
}

var (
	orders = map[string]defendersim.Order{
		"ascending": defendersim.Ascending, "descending": defendersim.Descending, "random": defendersim.Random,
	}
	forms = map[string]defendersim.Form{
		"array": defendersim.FormArray, "value": defendersim.FormValue, "single": defendersim.FormSingle,
	}
	styles = map[string]defendersim.Style{
		"seed": defendersim.SeedStyle, "wide": defendersim.WideStyle, "mixed": defendersim.MixedStyle,
	}
)

// parse reads the command line. nil options without an error: help was asked for and given.
func parse(args []string, out io.Writer) (*options, error) {
	o := &options{}
	var groups, deviceTags, cloudTags, faults, bounds, order, form, style string
	fs := flag.NewFlagSet("defendersim", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&o.server.API, "listen", "127.0.0.1:0", "address of the SIEM API")
	fs.StringVar(&o.server.Login, "listen-login", "127.0.0.1:0", "address of the token endpoints")
	fs.StringVar(&o.server.Identity, "listen-identity", "127.0.0.1:0", "address of the metadata service")
	fs.BoolVar(&o.server.Plain, "plain", false, "plain http instead of TLS")
	fs.StringVar(&o.ca, "ca", "", "file to write the CA's certificate to")
	fs.StringVar(&o.urlFile, "url-file", "", "file to write the URLs to, as JSON, once the service answers")
	fs.StringVar(&o.ledger, "ledger", "", "file to write the key of each alert to, as JSON lines")
	fs.StringVar(&o.config.Tenant, "tenant", defendersim.DefaultTenant, "tenant id")
	fs.StringVar(&o.config.ClientID, "client-id", defendersim.DefaultClientID, "the application's id")
	fs.StringVar(&o.config.ClientSecret, "client-secret", defendersim.DefaultSecret, "the application's secret")
	fs.StringVar(&o.native, "native", "", "client id of a native application, with which people log in")
	fs.StringVar(&o.identity, "identity", "", "client id of the machine's system-assigned managed identity")
	fs.DurationVar(&o.config.TokenLife, "token-life", 3599*time.Second, "how long a token lives")
	fs.DurationVar(&o.config.Retain, "retain", 0, "forget alerts older than this; 0: never")
	fs.Uint64Var(&o.config.Seed, "seed", 1, "decides all that is random")
	fs.IntVar(&o.initial, "initial", 20, "alerts at the start")
	fs.DurationVar(&o.initialSpan, "initial-span", time.Hour, "the time before the start that they are spread over")
	fs.Float64Var(&o.rate, "rate", 0, "further alerts a second")
	fs.BoolVar(&o.example, "example", true, "add the example alert of Microsoft's page, processed at the start")
	fs.StringVar(&groups, "groups", "", "machine groups, separated by commas")
	fs.StringVar(&deviceTags, "device-tags", "", "device created machine tags, separated by commas")
	fs.StringVar(&cloudTags, "cloud-tags", "", "cloud created machine tags, separated by commas")
	fs.StringVar(&style, "style", "mixed", "keys of the alerts: seed, wide or mixed")
	fs.IntVar(&o.mix.Size, "size", 0, "least bytes of an alert")
	fs.Float64Var(&o.mix.LateShare, "late-share", 0, "share (0 to 1) of alerts that become visible late")
	fs.DurationVar(&o.mix.Late, "late", 0, "by at most this")
	fs.Float64Var(&o.mix.UpdateShare, "update-share", 0, "share of the first alerts that are updates of others")
	fs.Float64Var(&o.mix.TieShare, "tie-share", 0, "share of the first alerts with the time of the one before")
	fs.Float64Var(&o.mix.PartShare, "part-share", 0, "share of the first alerts that are further parts")
	fs.Float64Var(&o.mix.UntimedShare, "untimed-share", 0, "share of the first alerts without a usable time")
	m := &o.config.Modes
	fs.BoolVar(&m.Gzip, "gzip", true, "compress for clients that ask for it")
	fs.BoolVar(&m.ContentLength, "content-length", false, "declare the length of answers")
	fs.StringVar(&bounds, "bounds", "inclusive", "inclusive, exclusive, seconds (truncated) or milliseconds")
	fs.StringVar(&order, "order", "ascending", "order of rows: ascending, descending or random")
	fs.StringVar(&form, "form", "array", "form of bodies: array, value or single")
	fs.IntVar(&m.Cap, "cap", 0, "hidden cap of rows in an answer; 0: none")
	fs.IntVar(&m.Rate, "body-rate", 0, "bytes a second of bodies; 0: no limit")
	fs.DurationVar(&m.DateOffset, "date-offset", 0, "moves every Date header")
	fs.BoolVar(&m.NoDate, "no-date", false, "no Date header")
	fs.StringVar(&faults, "faults", "", "faults by chance, separated by commas; none: all usual ones. Known: "+
		strings.Join(defendersim.FaultNames(), ", "))
	fs.Float64Var(&o.faultShare, "fault-share", 0, "share (0 to 1) of requests with a fault")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	o.mix.Groups, o.mix.DeviceTags, o.mix.CloudTags = list(groups), list(deviceTags), list(cloudTags)
	if o.faults = list(faults); len(o.faults) > 0 && o.faultShare <= 0 {
		return nil, errors.New("faults: none would come without a fault-share")
	}
	var e1, e2, e3 error
	m.Order, e1 = choose("order", orders, order)
	m.Form, e2 = choose("form", forms, form)
	o.mix.Style, e3 = choose("style", styles, style)
	if err := errors.Join(e1, e2, e3); err != nil {
		return nil, err
	}
	switch bounds {
	case "inclusive":
	case "exclusive":
		m.SinceExclusive, m.UntilExclusive = true, true
	case "seconds":
		m.TruncateBounds = time.Second
	case "milliseconds":
		m.TruncateBounds = time.Millisecond
	default:
		return nil, fmt.Errorf("bounds: %q is not known", bounds)
	}
	return o, nil
}

func choose[T any](name string, from map[string]T, value string) (T, error) {
	v, ok := from[value]
	if !ok {
		return v, fmt.Errorf("%s: %q is not known", name, value)
	}
	return v, nil
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
