package flbhost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// FluentBit finds a real Fluent Bit: FLUENT_BIT, else fluent-bit on PATH. False: there is none.
func FluentBit() (string, bool) {
	name := os.Getenv("FLUENT_BIT")
	if name == "" {
		name = "fluent-bit"
	}
	path, err := exec.LookPath(name)
	return path, err == nil
}

// Where a real Fluent Bit runs (Options.FluentBit), records are read from its stdout output, which is added where the
// configuration has no [OUTPUT]. A record carries no tag and no instance then. Its time comes from dateKey.
const (
	dateKey    = "date"
	realOutput = "[OUTPUT]\n  name stdout\n  match *\n  format json_lines\n  json_date_key " + dateKey +
		"\n  json_date_format iso8601\n"
)

var errNotReal = errors.New("a real Fluent Bit takes no such command")

func withOutput(config string) string {
	if strings.Contains(strings.ToUpper(config), "[OUTPUT]") {
		return config
	}
	return config + "\n" + realOutput
}

// realEvents turns log lines of Fluent Bit (log_level info at least) into the events of the View.
var realEvents = []struct{ text, event string }{
	{"[sp] stream processor started", "started"},
	{"Reloading is halted", "reload-halted"},
	{"Reloading is aborted", "reload-aborted"},
	{"[engine] service has stopped", "stopped"},
	{"[engine] input initialization failed", "start-failed"},
}

func (h *Host) realEvent(v *View, l Log) {
	for _, e := range realEvents {
		if l.Level != "" && strings.HasPrefix(l.Text, "[") && strings.Contains(l.Text, e.text) {
			event := e.event
			if event == "started" && v.HasEvent(event) {
				event = "reloaded" // versions before 4.0.12 do not say so
			}
			v.Events = append(v.Events, event)
		}
	}
}

// readLines reads the records of a real Fluent Bit, and passes over what else stands on its stdout.
func (h *Host) readLines(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '{' {
			record, err := parseLine(line)
			if err == nil && h.options.OnRecord != nil {
				h.options.OnRecord(record)
			}
			h.change(func(v *View) {
				switch {
				case err != nil:
					v.Sins = append(v.Sins, err.Error())
					return
				case h.options.OnRecord == nil:
					v.Records = append(v.Records, record)
				}
				v.Count++
			})
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func parseLine(line []byte) (Record, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	v, err := jsonValue(d)
	if err != nil {
		return Record{}, fmt.Errorf("a line of Fluent Bit: %w: %s", err, line)
	}
	m, ok := v.(Map)
	if !ok || len(m) == 0 || m[0].Key != dateKey {
		return Record{}, fmt.Errorf("a line of Fluent Bit has no %s: %s", dateKey, line)
	}
	at, err := time.Parse(time.RFC3339Nano, m.String(dateKey))
	return Record{Time: at, Body: m[1:]}, err
}

// jsonValue decodes in order, numbers as Decode gives them.
func jsonValue(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Number:
		return number(v)
	case json.Delim:
		if v == '[' {
			list := []any{}
			for d.More() {
				item, err := jsonValue(d)
				if err != nil {
					return nil, err
				}
				list = append(list, item)
			}
			_, err = d.Token()
			return list, err
		}
		m := Map{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := jsonValue(d)
			if err != nil {
				return nil, err
			}
			m = append(m, Field{fmt.Sprint(key), value})
		}
		_, err = d.Token()
		return m, err
	}
	return token, nil
}

func number(n json.Number) (any, error) {
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	var u uint64
	if err := json.Unmarshal([]byte(n), &u); err == nil && u > math.MaxInt64 {
		return u, nil
	}
	return n.Float64()
}

// reloadReal writes the new configuration over the old one and sends SIGHUP.
func (h *Host) reloadReal(config string) error {
	if err := os.WriteFile(h.config, []byte(withOutput(config)), 0o600); err != nil {
		return err
	}
	return h.Signal(syscall.SIGHUP)
}
