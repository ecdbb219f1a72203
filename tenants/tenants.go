// Package tenants reads the file that a stanza's tenants_file names: at start, and whenever it changes.
package tenants

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"fluent-bit-defender/conf"
)

// Load reads a stanza as conf.LoadStanza does, and its tenants: those of tenants_file, else the one that the stanza
// is. The error is of type conf.Faults and holds every fault of both.
func Load(get, env func(name string) string) (*conf.Stanza, []*conf.Config, error) {
	s, faults := conf.LoadStanza(get, env)
	if s.TenantsFile == "" {
		if len(faults) > 0 {
			return nil, nil, faults
		}
		return s, []*conf.Config{s.Config}, nil
	}
	found, more := read(s)
	if faults = append(faults, more...); len(faults) > 0 {
		return nil, nil, faults
	}
	return s, found.Good, nil
}

func read(s *conf.Stanza) (conf.Tenants, conf.Faults) {
	text, err := readFile(s.TenantsFile)
	if err != nil {
		return conf.Tenants{}, conf.Faults{{Key: "tenants_file", Message: err.Error()}}
	}
	return s.Tenants(text)
}

// readFile reads a regular file of at most conf.MaxTenantsFile bytes.
func readFile(path string) ([]byte, error) {
	// Without O_NONBLOCK a named pipe would hold the caller for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w; give the path of a list of tenants, readable for Fluent Bit", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("is no regular file; give the path of a list of tenants")
	}
	const most = conf.MaxTenantsFile + 1 // one more than is taken, so that too many are refused
	var text bytes.Buffer
	text.Grow(int(min(info.Size(), most)) + bytes.MinRead) // the Watcher reads it every few seconds
	if _, err := text.ReadFrom(io.LimitReader(f, most)); err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return text.Bytes(), nil
}
