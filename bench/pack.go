package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fluent-bit-defender/internal/flbhost"
	"fluent-bit-defender/internal/sample"
)

// fluentBitC is flb_pack_json of the real Fluent Bit at hand, which packs rows one at a time in its own process: into
// native records, without time and identity.
type fluentBitC struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	took time.Duration
	dir  string
}

// startC starts it; nil where there is no Fluent Bit.
func startC(rows [][]byte) (*fluentBitC, error) {
	program, ok := flbhost.FluentBit()
	if !ok {
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	c := &fluentBitC{dir: dir}
	so, file := filepath.Join(dir, "pack.so"), filepath.Join(dir, "rows")
	var text []byte
	for _, r := range rows {
		text = append(binary.NativeEndian.AppendUint64(text, uint64(len(r))), r...)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return c, err
	}
	if err := flbhost.BuildC("testdata/pack.c", so); err != nil {
		return c, err
	}
	c.cmd = exec.Command(program)
	c.cmd.Env = append(os.Environ(), "LD_PRELOAD="+so, "PACK_ROWS="+file)
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return c, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return c, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

// turn packs all rows once.
func (c *fluentBitC) turn() error {
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		return err
	}
	line, err := c.out.ReadString('\n')
	ns, bad := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil || bad != nil {
		return fmt.Errorf("flb_pack_json: %q: %w", line, err)
	}
	c.took = time.Duration(ns)
	return nil
}

func (c *fluentBitC) close() {
	if c == nil {
		return
	}
	if c.cmd != nil && c.cmd.Process != nil {
		_ = c.in.Close()
		_ = c.cmd.Wait()
	}
	_ = os.RemoveAll(c.dir)
}

// contender is it among others.
func (c *fluentBitC) contender() *sample.Contender {
	return &sample.Contender{Name: "Fluent Bit's flb_pack_json", Run: c.turn,
		Took: func() time.Duration { return c.took }}
}
