package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
	"unsafe"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/plugin/flb"
	"fluent-bit-defender/pull"
)

// startWithin is how long after its Exit Init waits for a runner that outlived it. Its last commit waits for a disk,
// which may well be slow for seconds, and a stanza that is refused at a reload ends Fluent Bit. Nothing else of
// Fluent Bit runs meanwhile; it sets no limit to an Init.
const startWithin = 30 * time.Second

// errHeld: a runner that outlived its Exit has the state of the stanza.
var errHeld = errors.New("what ran before the reload holds the state")

// open makes an instance of the stanza that Init is called for and starts it. False: it was told why, and nothing is
// left.
func open(plugin unsafe.Pointer) bool {
	core := flb.Attach(plugin, kind, instances.count())
	log := core.Log().Logger()
	token := instances.reserve()
	old := !core.SetToken(token)
	if old && len(instances.of(core.Thread())) > 0 {
		log.Error("this Fluent Bit cannot tell apart several stanzas that share a thread; " +
			"leave out `threaded off`, or use Fluent Bit 4.1 or later")
		core.Log().Close()
		return false
	}
	s, cfgs, err := build(func(key string) string { return flb.Property(plugin, key) }, log)
	if err != nil {
		faults := faultsOf(err)
		for _, f := range faults {
			log.Error(f)
		}
		core.Log().Close() // what is said from now on goes to stderr
		refused.add(faults, log)
		return false
	}
	m := newMeter(core, log, s.Stats())
	instances.add(&instance{lines: core.Log(), log: log, engine: s, meter: m, old: old}, core.Thread(), token)
	s.start(cfgs)
	core.Log().Flush()
	return true
}

// faultsOf are the lines for an error of build, one for each fault of the stanza.
func faultsOf(err error) (lines []string) {
	if errors.Is(err, errHeld) {
		return []string{fmt.Sprintf("what ran before the reload has not ended within %s and still holds "+
			"the state of this stanza: a disk or network share hangs; "+
			"look at those of db and of the credential's file, and start Fluent Bit again", startWithin)}
	}
	faults, ok := errors.AsType[conf.Faults](err)
	if !ok {
		return []string{err.Error()}
	}
	for _, f := range faults {
		lines = append(lines, f.Error())
	}
	return lines
}

// build opens what a stanza needs, without starting it. On an error nothing is left open.
func build(get func(key string) string, log *slog.Logger) (*stanza, []*conf.Config, error) {
	s, cfgs, err := load(get, log)
	if err != nil {
		return nil, nil, err
	}
	if !instances.await(startWithin) {
		if slices.ContainsFunc(cfgs, func(cfg *conf.Config) bool { return instances.left(pull.KeyOf(cfg)) }) {
			return nil, nil, errHeld
		}
		log.Warn(fmt.Sprintf("a stanza that ran before the reload has not ended within %s: "+
			"a disk or network share hangs; look at those of its db and its credential's file; "+
			"this stanza has another state, and starts", startWithin))
	}
	if err := s.open(cfgs); err != nil {
		return nil, nil, err
	}
	return s, cfgs, nil
}
