package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fluent-bit-defender/pull"
	"fluent-bit-defender/state"
)

// stateOptions are the flags of state.
type stateOptions struct {
	config, stanza, db string
	tenant             string
	resetTo            string
	back, yes, json    bool
}

func (a *app) stateCommand() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use:   "state {-c FILE | --db FILE}",
		Short: "Show what the plugin remembers, or let it begin at another time",
		Long: "state shows for every stanza of a configuration, or for all that a state file holds, " +
			"up to which time everything was pulled\n" +
			"(watermark) and how long ago that is, ranges that could not be read (unread), " +
			"how many rows are remembered (ids), and how much room\n" +
			"that takes. It reads the file also while Fluent Bit uses it, and changes nothing. " +
			"What is worst comes first: what has nothing stored,\n" +
			"then what has the oldest time before which not all was pulled. " +
			"Many tenants are shown as a table; --tenant shows one in full.\n\n" +
			"With --reset-to a stanza begins at that time: " +
			"what was processed since then is pulled again, what came before is not. Fluent Bit\n" +
			"must be stopped first. With --successor-back a stanza that went on with Microsoft Graph " +
			"(successor graph) asks the SIEM API again.\n\n" +
			"Of db kubernetes:// it shows the workers, and of each source the pod that pulls it; " +
			"that takes defenderctl-kubernetes.\n\n" +
			"A relative db of a stanza starts at Fluent Bit's working directory: run state there, or give --db.\n\n" +
			"A TIME is " + momentHelp + ".",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config == "" && o.db == "" {
				return usagef("neither -c nor --db is given")
			}
			switch {
			case o.resetTo != "" && o.back:
				return usagef("--reset-to and --successor-back are two steps: give one at a time")
			case o.resetTo != "":
				return a.reset(o)
			case o.back:
				return a.successorBack(o)
			}
			return a.state(o)
		},
	}
	c.Flags().StringVarP(&o.config, "config", "c", "", "Fluent Bit's configuration `FILE`, classic or YAML")
	c.Flags().StringVar(&o.db, "db", "", "the state `FILE`, in place of that of the stanzas")
	c.Flags().StringVar(&o.stanza, "stanza", "", "the `NAME` of one stanza (its alias, else defender.N)")
	c.Flags().StringVar(&o.tenant, "tenant", "", tenantHelp)
	c.Flags().StringVar(&o.resetTo, "reset-to", "", "let the stanza begin at this `TIME`")
	c.Flags().BoolVar(&o.back, "successor-back", false, "let the stanza go back from the successor to its own API")
	c.Flags().BoolVar(&o.yes, "yes", false, "do not ask before a change")
	c.Flags().BoolVar(&o.json, "json", false, "write one JSON object")
	return c
}

// bucket is the state of one stanza, or of none, as it is shown.
type bucket struct {
	Stanza    string              `json:"stanza,omitempty"` // empty: no stanza uses it
	Tenant    string              `json:"tenant,omitempty"` // its name, else its id, where the stanza has many
	Key       state.Key           `json:"key"`
	Watermark *time.Time          `json:"watermark"` // null: nothing is stored yet
	Lag       float64             `json:"lag_seconds,omitempty"`
	Unread    []state.UnreadRange `json:"unread"`
	IDs       int                 `json:"ids"`
	Oldest    *time.Time          `json:"ids_oldest,omitempty"`
	Newest    *time.Time          `json:"ids_newest,omitempty"`
	Bytes     int64               `json:"bytes"`
	Used      *time.Time          `json:"used,omitempty"`
	Succeeded *time.Time          `json:"successor_since,omitempty"`
	Owner     string              `json:"owner,omitempty"` // the pod that pulls it, of those that share
}

// stateFile is one file with all that it holds.
type stateFile struct {
	Path    string   `json:"path"`
	Bytes   int64    `json:"bytes"`
	Held    bool     `json:"in_use"`
	Error   string   `json:"error,omitempty"`
	Workers []worker `json:"workers,omitempty"` // of pods that share
	Buckets []bucket `json:"states"`
}

// owner is a stanza, or a tenant of one with many, with the place of its state.
type owner struct {
	name   string // of the stanza
	tenant string // see tenantOf
	path   string
	key    state.Key

	kubeconfig string
}

func (w owner) String() string {
	if w.tenant == "" {
		return w.name
	}
	return w.name + ", tenant " + w.tenant
}

// owners are the stanzas of the configuration, or the one that was named. Without a configuration there are none.
func (a *app) owners(o stateOptions) ([]owner, error) {
	if o.config == "" {
		return nil, nil
	}
	c, err := a.readConfig(o.config)
	if err != nil {
		return nil, err
	}
	var found []owner
	known := false
	for _, s := range a.stanzas(c) {
		if o.stanza != "" && s.name != o.stanza {
			continue
		}
		known = true
		_, cfgs, err := s.load()
		if err != nil {
			return nil, fmt.Errorf("stanza %s: %w", s.name, err)
		}
		if o.tenant != "" {
			cfgs = named(cfgs, o.tenant)
		}
		for _, cfg := range cfgs {
			found = append(found,
				owner{s.name, tenantOf(cfg), cmp.Or(o.db, cfg.DB), pull.KeyOf(cfg), cfg.Kubeconfig})
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case known:
		return nil, usagef("%s has no tenant %s", o.config, clip(o.tenant))
	case o.stanza != "":
		return nil, usagef("%s has no stanza %s", o.config, clip(o.stanza))
	}
	return nil, fmt.Errorf("%s: no input named %s in it", o.config, pluginName)
}

func (a *app) state(o stateOptions) error {
	owners, err := a.owners(o)
	if err != nil {
		return err
	}
	paths, memory := placesOf(owners, o.db)
	var files []stateFile
	var failed error
	for _, path := range paths {
		f, err := a.inspect(path, owners, o.stanza != "" || o.tenant != "")
		if err != nil {
			f.Error = oneLine(err.Error())
			failed = err
		}
		files = append(files, f)
	}
	if o.json {
		if err := writeJSON(a.out, map[string]any{"files": files, "in_memory": memory}); err != nil {
			return err
		}
	} else {
		a.show(files, memory, len(owners) > 0)
	}
	if failed != nil {
		return errFindings
	}
	return nil
}

// placesOf lists the files, and the stanzas that have none, in the order of the stanzas.
func placesOf(owners []owner, db string) (paths, memory []string) {
	memory = []string{}
	if db != "" {
		return []string{db}, memory
	}
	seen := map[string]bool{}
	for _, w := range owners {
		clean := cleanPath(w.path)
		switch {
		case w.path == "":
			if !slices.Contains(memory, w.name) {
				memory = append(memory, w.name)
			}
		case !seen[clean]:
			seen[clean] = true
			paths = append(paths, w.path)
		}
	}
	return paths, memory
}

func inspectFile(path string) (state.Report, error) {
	rep, err := state.Inspect(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("state file %s is not there: nothing was stored yet, "+
			"or its path starts at another directory (Fluent Bit's own)", path)
	}
	return rep, err
}

// inspect reads one file and sorts what it holds by its stanzas: first those of the configuration, then what no
// stanza uses. What is worst comes first among the tenants of a stanza, and among what no stanza uses.
func (a *app) inspect(path string, owners []owner, only bool) (stateFile, error) {
	var f stateFile
	var rep state.Report
	var pods map[state.Key]string
	var err error
	if shared(path) {
		kubeconfig := ""
		if i := slices.IndexFunc(owners, func(w owner) bool { return w.path == path }); i >= 0 {
			kubeconfig = owners[i].kubeconfig
		}
		if f, rep, pods, err = inspectShared(path, kubeconfig); pods == nil {
			return f, err
		}
	} else {
		rep, err = inspectFile(path)
		if f = (stateFile{Path: path, Bytes: rep.Bytes, Held: rep.Held, Buckets: []bucket{}}); err != nil {
			return f, err
		}
	}
	byKey := map[state.Key]state.SourceReport{}
	for _, st := range rep.Sources {
		byKey[st.Key] = st
	}
	for _, w := range owners {
		if cleanPath(w.path) != cleanPath(path) {
			continue
		}
		st, found := byKey[w.key]
		delete(byKey, w.key)
		st.Key = w.key
		b := a.bucket(w.name, st, found)
		b.Tenant = w.tenant
		f.Buckets = append(f.Buckets, b)
	}
	order := map[string]int{"": len(owners)} // of the stanzas
	for i, b := range slices.Backward(f.Buckets) {
		order[b.Stanza] = i
	}
	for _, st := range rep.Sources {
		if _, left := byKey[st.Key]; left && !only {
			f.Buckets = append(f.Buckets, a.bucket("", st, true))
		}
	}
	for i := range f.Buckets {
		f.Buckets[i].Owner = pods[f.Buckets[i].Key]
	}
	slices.SortStableFunc(f.Buckets, func(x, y bucket) int {
		return cmp.Or(cmp.Compare(order[x.Stanza], order[y.Stanza]), x.whole().Compare(y.whole()))
	})
	return f, err
}

// cleanPath is one spelling of a db.
func cleanPath(path string) string {
	if shared(path) {
		return path
	}
	return filepath.Clean(path)
}

// whole is the time before which all was pulled; zero: nothing is stored.
func (b bucket) whole() time.Time {
	if b.Watermark == nil {
		return time.Time{}
	}
	whole := *b.Watermark
	for _, u := range b.Unread {
		if u.Since.Before(whole) {
			whole = u.Since
		}
	}
	return whole
}

func (a *app) bucket(name string, st state.SourceReport, found bool) bucket {
	b := bucket{Stanza: name, Key: st.Key, Unread: st.Unread, IDs: st.IDs, Bytes: st.Bytes}
	if b.Unread == nil {
		b.Unread = []state.UnreadRange{}
	}
	given := func(t time.Time) *time.Time {
		if !found || t.IsZero() {
			return nil
		}
		return &t
	}
	b.Watermark, b.Oldest, b.Newest = given(st.Watermark), given(st.Oldest), given(st.Newest)
	b.Used, b.Succeeded = given(st.Used), given(st.Succeeded)
	if b.Watermark != nil {
		b.Lag = a.now().Sub(st.Watermark).Round(time.Second).Seconds()
	}
	return b
}
