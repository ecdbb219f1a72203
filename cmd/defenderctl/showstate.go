package main

import (
	"cmp"
	"fmt"
	"text/tabwriter"
	"time"
)

// show prints files for people. named: there is a configuration that could have a stanza for each state.
func (a *app) show(files []stateFile, memory []string, named bool) {
	for _, f := range files {
		use := "not in use"
		if f.Held {
			use = "in use"
		}
		if f.Error != "" {
			fmt.Fprintln(a.err, "defenderctl: "+f.Error)
			if len(f.Workers) == 0 && len(f.Buckets) == 0 {
				continue
			}
		}
		fmt.Fprintf(a.out, "%s: %s, %s\n", f.Path, size(f.Bytes), use)
		for _, w := range f.Workers {
			if w.Pod == "" {
				fmt.Fprintf(a.out, "  worker %s: nobody\n", w.Lease)
				continue
			}
			fmt.Fprintf(a.out, "  worker %s: %s, renewed %s, pulls %s\n",
				w.Lease, w.Pod, stamp(*w.Renewed), plural(w.Sources, "source"))
		}
		for rest := f.Buckets; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Stanza == rest[0].Stanza {
				n++
			}
			if n > mostInFull {
				a.showTable(rest[:n], named)
			} else {
				for _, b := range rest[:n] {
					a.showBucket(b, named)
				}
			}
			rest = rest[n:]
		}
		if len(f.Buckets) == 0 {
			fmt.Fprintln(a.out, "  nothing is stored")
		}
	}
	for _, name := range memory {
		fmt.Fprintf(a.out, "%s: remembers in memory only (no db): nothing can be shown\n", name)
	}
}

// mostInFull is how many states of one stanza are shown in full; more are a table.
const mostInFull = 5

// showTable prints many states, each in one line.
func (a *app) showTable(all []bucket, named bool) {
	fmt.Fprintf(a.out, "  %s%d states, the worst first\n", nameOf(all[0], named), len(all))
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "    lag\twatermark\tunread\tids\ttenant\n")
	for _, b := range all {
		lag, at := "", "nothing is stored yet"
		if b.Watermark != nil {
			lag, at = longTime(time.Duration(b.Lag*float64(time.Second))), stamp(*b.Watermark)
		}
		tenant := b.Key.Tenant
		if b.Tenant != "" && b.Tenant != tenant {
			tenant = b.Tenant + " (" + tenant + ")"
		}
		if b.Key.Filters != "" {
			tenant += ", filters " + b.Key.Filters
		}
		if b.Succeeded != nil {
			tenant += ", by Microsoft Graph since " + stamp(*b.Succeeded)
		}
		if b.Owner != "" {
			tenant += ", pulled by " + b.Owner
		}
		fmt.Fprintf(w, "    %s\t%s\t%d\t%s\t%s\n", lag, at, len(b.Unread), count(b.IDs), tenant)
	}
	_ = w.Flush() // as Fprintf to the same place
}

// nameOf is what the lines of a state begin with.
func nameOf(b bucket, named bool) string {
	switch {
	case b.Stanza == "" && named:
		return "no stanza: "
	case b.Stanza == "":
		return ""
	}
	return b.Stanza + ": "
}

func (a *app) showBucket(b bucket, named bool) {
	name := nameOf(b, named)
	if b.Tenant != "" && b.Tenant != b.Key.Tenant {
		name += b.Tenant + ", "
	}
	fmt.Fprintf(a.out, "  %s%s of %s, tenant %s, filters %s\n", name, b.Key.API, b.Key.Place, b.Key.Tenant,
		cmp.Or(b.Key.Filters, "none"))
	if b.Used == nil {
		fmt.Fprintln(a.out, "    nothing is stored yet")
		return
	}
	if b.Watermark == nil {
		fmt.Fprintln(a.out, "    watermark  nothing yet")
	} else {
		lag := time.Duration(b.Lag * float64(time.Second))
		fmt.Fprintf(a.out, "    watermark  %s\n    lag        %s\n", stamp(*b.Watermark), longTime(lag))
	}
	if b.Owner != "" {
		fmt.Fprintf(a.out, "    owner      %s\n", b.Owner)
	}
	if b.Succeeded != nil {
		fmt.Fprintf(a.out, "    successor  Microsoft Graph, since %s\n", stamp(*b.Succeeded))
	}
	fmt.Fprintf(a.out, "    unread     %d\n", len(b.Unread))
	for _, g := range b.Unread {
		fmt.Fprintf(a.out, "               %s to %s: %s\n", stamp(g.Since), stamp(g.Until), oneLine(g.Reason))
	}
	fmt.Fprintf(a.out, "    ids        %s", plural(b.IDs, "row"))
	if b.Oldest != nil && b.Newest != nil {
		fmt.Fprintf(a.out, ", from %s to %s", stamp(*b.Oldest), stamp(*b.Newest))
	}
	fmt.Fprintf(a.out, "\n    size       %s\n    used       %s\n", size(b.Bytes), stamp(*b.Used))
}
