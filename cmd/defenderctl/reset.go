package main

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/state"
)

// reset lets one stanza begin at another time.
func (a *app) reset(o stateOptions) error {
	to, err := parseMoment("reset-to", o.resetTo, a.now())
	if err != nil {
		return err
	}
	if to.After(a.now()) {
		return usagef("--reset-to %s is in the future", stamp(to.Time))
	}
	w, st, err := a.oneState(o)
	if err == nil && shared(w.path) {
		err = notChanged(w)
	}
	if err != nil {
		return err
	}
	was := "nothing stored"
	if !st.Watermark.IsZero() {
		was = "pulled up to " + stamp(st.Watermark)
	}
	fmt.Fprintf(a.err, "%s: %s: %s; it would begin at %s: "+
		"what was processed since then comes again, what came before does not\n", w.path, w, was, stamp(to.Time))
	if err := a.confirm(o.yes); err != nil {
		return err
	}
	if err := changed(w, state.Reset(w.path, w.key, to.Time)); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s begins at %s\n", w, stamp(to.Time))
	return nil
}

// successorBack lets one stanza return from the successor to its own API.
func (a *app) successorBack(o stateOptions) error {
	w, st, err := a.oneState(o)
	switch {
	case err != nil:
		return err
	case st.Succeeded.IsZero():
		return fmt.Errorf("%s has not gone on with a successor: there is nothing to go back from", w)
	}
	fmt.Fprintf(a.err, "%s: %s: pulled from Microsoft Graph since %s; it would ask the SIEM API again, from %s on: "+
		"alerts that Graph gave come again as its detections\n", w.path, w, stamp(st.Succeeded), stamp(st.Watermark))
	if err := a.confirm(o.yes); err != nil {
		return err
	}
	if namespace, name, is := conf.SharedDB(w.path); is {
		err = returnCluster(w.kubeconfig, namespace, name, w.key)
	} else {
		err = changed(w, state.Return(w.path, w.key))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s asks the SIEM API again\n", w)
	return nil
}

// oneState is what is to be changed, and what it holds; nobody has it open.
func (a *app) oneState(o stateOptions) (w owner, st state.SourceReport, err error) {
	if shared(o.db) {
		return w, st, notChanged(owner{path: o.db})
	}
	if w, err = a.oneOwner(o); err != nil {
		return w, st, err
	}
	var rep state.Report
	if shared(w.path) {
		_, rep, _, err = inspectShared(w.path, w.kubeconfig)
		rep.Held = false // a source has an owner, or none: see returnCluster
	} else {
		rep, err = inspectFile(w.path)
	}
	if err == nil && rep.Held {
		err = changed(w, state.ErrLocked)
	}
	for _, s := range rep.Sources {
		if s.Key == w.key {
			st = s
		}
	}
	return w, st, err
}

// changed is the error of a change to a file.
func changed(w owner, err error) error {
	if errors.Is(err, state.ErrLocked) {
		return fmt.Errorf("%s is in use: stop Fluent Bit first", w.path)
	}
	return err
}

// oneOwner picks what is to be reset: a stanza, or the only state in a file.
func (a *app) oneOwner(o stateOptions) (owner, error) {
	owners, err := a.owners(o)
	if err != nil {
		return owner{}, err
	}
	if len(owners) > 1 {
		var names []string
		for _, w := range owners {
			if !slices.Contains(names, w.name) {
				names = append(names, w.name)
			}
		}
		if len(names) == 1 {
			return owner{}, usagef("stanza %s has %d tenants of that name or id: name one by --tenant",
				names[0], len(owners))
		}
		return owner{}, usagef("%s has %d %s stanzas: name one by --stanza: %s",
			o.config, len(names), pluginName, strings.Join(names, ", "))
	}
	if len(owners) == 1 {
		if owners[0].path == "" {
			return owner{}, fmt.Errorf("%s remembers in memory only (no db): there is nothing to reset", owners[0].name)
		}
		return owners[0], nil
	}
	rep, err := inspectFile(o.db)
	if err != nil {
		return owner{}, err
	}
	if len(rep.Sources) != 1 {
		return owner{}, usagef("%s holds %d states: name the stanza by -c and --stanza", o.db, len(rep.Sources))
	}
	return owner{rep.Sources[0].Key.String(), "", o.db, rep.Sources[0].Key, ""}, nil
}

// confirm asks on the terminal, unless --yes was given.
func (a *app) confirm(yes bool) error {
	switch {
	case yes:
		return nil
	case !a.inTTY:
		return usagef("nobody is there to confirm it: --yes does it without asking")
	}
	fmt.Fprint(a.err, "Go on? [y/N] ")
	answer, _ := bufio.NewReader(a.in).ReadString('\n') // no answer is a no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}
