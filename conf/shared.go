package conf

import (
	"errors"
	"regexp"
	"strings"
)

const (
	sharedScheme   = "kubernetes://"
	sharedNameMost = 52 // with a hash behind it it is the value of a label, which has 63 characters at most
	namespaceMost  = 63
)

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// cleanDB takes a path, or what SharedDB takes apart.
func cleanDB(text string) (string, error) {
	namespace, name, shared := SharedDB(text)
	switch {
	case !shared:
		return parsePath(text)
	case strings.Contains(text[len(sharedScheme):], "/") && (!dnsLabel.MatchString(namespace) ||
		len(namespace) > namespaceMost):
		return "", errors.New("not with a namespace of Kubernetes")
	case len(name) > sharedNameMost:
		return "", errors.New("too long a NAME")
	case !dnsLabel.MatchString(name):
		return "", errors.New("not a NAME of Kubernetes objects")
	}
	return text, nil
}

// SharedDB takes a db of the form kubernetes://NAMESPACE/NAME apart. The namespace is empty where db names none. False:
// db is the path of a file, or empty.
func SharedDB(db string) (namespace, name string, shared bool) {
	rest, shared := strings.CutPrefix(db, sharedScheme)
	if !shared {
		return "", "", false
	}
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		return rest[:i], rest[i+1:], true
	}
	return "", rest, true
}

// Shared is SharedDB of the stanza's db.
func (c *Config) Shared() (namespace, name string, shared bool) { return SharedDB(c.DB) }

// sharedAlone is the rule for the keys that need db kubernetes://.
func sharedAlone(key string) rule {
	return rule{
		says: "`" + key + "` has no effect without `db kubernetes://NAME`.",
		keys: []string{key, "db"},
		wrong: when(func(l *loader) bool {
			_, _, shared := l.cfg.Shared()
			return l.given(key) && !shared
		}, "has no effect without db kubernetes://NAME; allowed: to leave the key out"),
	}
}
