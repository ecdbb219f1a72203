package main

import (
	"fmt"
	"strings"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/share"
	"fluent-bit-defender/state"
)

// worker is a pod that pulls, as it is shown.
type worker struct {
	Lease   string     `json:"lease"`
	Pod     string     `json:"pod"` // empty: nobody holds it
	Renewed *time.Time `json:"renewed,omitempty"`
	Sources int        `json:"sources"` // that it owns
}

// shared tells whether a db is the Kubernetes API.
func shared(db string) bool {
	_, _, is := conf.SharedDB(db)
	return is
}

// inspectShared reads what the Kubernetes API holds, as if it were a file that all pods share.
func inspectShared(db, kubeconfig string) (f stateFile, rep state.Report, owners map[state.Key]string, err error) {
	namespace, name, _ := conf.SharedDB(db)
	f, rep.Path, owners = stateFile{Path: db, Buckets: []bucket{}}, db, map[state.Key]string{}
	found, err := inspectCluster(kubeconfig, namespace, name)
	if err != nil {
		return f, rep, nil, fmt.Errorf("%s: %w", db, err)
	}
	owned := map[string]int{}
	var broken []string
	for _, h := range found.Sources {
		if h.Err != nil {
			broken = append(broken, h.Err.Error())
			continue
		}
		owned[h.Owner]++
		owners[h.Key] = share.PodOf(h.Owner)
		rep.Sources = append(rep.Sources, h.SourceReport)
		f.Bytes += h.Bytes
	}
	for _, l := range found.Workers {
		w := worker{Lease: share.LeaseName(name, l.Slot), Pod: share.PodOf(l.Holder), Sources: owned[l.Holder]}
		if l.Holder != "" {
			w.Renewed, f.Held = &l.Renewed, true
		} else {
			w.Sources = 0
		}
		f.Workers = append(f.Workers, w)
	}
	rep.Bytes, rep.Held = f.Bytes, f.Held
	if len(broken) > 0 {
		err = fmt.Errorf("%s: %s", db, strings.Join(broken, "; "))
	}
	return f, rep, owners, err
}

// notChanged refuses to set back what pods share.
func notChanged(w owner) error {
	namespace, name, _ := conf.SharedDB(w.path)
	in := ""
	if namespace != "" {
		in = "-n " + namespace + " "
	}
	return fmt.Errorf("%s: what pods share is not set back from here: delete the ConfigMap of the source "+
		"(kubectl %sget configmap -l %s=%s), and it begins at initial_lookback", w.path, in, share.NameLabel, name)
}
