//go:build kubernetes

package podtest

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// link is a way to the API server that can be cut: then it carries nothing and closes nothing, as a network does.
type link struct {
	way    sync.RWMutex // held for writing while it is cut
	target string
}

// startLink returns a link and a copy of the kubeconfig that goes by it.
func (w *world) startLink() (l *link, kubeconfig string) {
	w.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = listener.Close() })
	text, err := os.ReadFile(w.kubeconfig)
	if err != nil {
		w.Fatal(err)
	}
	kubeconfig = filepath.Join(w.TempDir(), "kubeconfig")
	by := strings.ReplaceAll(string(text), w.server.URL, "https://"+listener.Addr().String())
	if by == string(text) {
		w.Fatalf("%s does not name %s", w.kubeconfig, w.server.URL)
	}
	if err := os.WriteFile(kubeconfig, []byte(by), 0o600); err != nil {
		w.Fatal(err)
	}
	l = &link{target: strings.TrimPrefix(w.server.URL, "https://")}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(c)
		}
	}()
	return l, kubeconfig
}

func (l *link) carry(near net.Conn) {
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		_ = near.Close()
		return
	}
	go l.pump(far, near)
	l.pump(near, far)
}

// pump carries what one end says to the other. What is under way in a cut arrives when it ends, as what TCP sends
// again does.
func (l *link) pump(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.way.RLock()
		if n > 0 {
			_, writeErr := to.Write(buf[:n])
			if err == nil {
				err = writeErr
			}
		}
		l.way.RUnlock()
		if err != nil {
			return
		}
	}
}

func TestAPodCutOffFromTheAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lines += "  takeover_overlap 0s\n"
	direct, links := w.kubeconfig, map[string]*link{}
	for range 2 {
		w.kubeconfig = direct
		l, kubeconfig := w.startLink()
		w.kubeconfig = kubeconfig
		name, _ := w.pod()
		links[name] = l
	}
	w.add(1)
	w.await("the first alert", limit, w.all)
	stop := w.load()
	time.Sleep(8 * second)
	owner := w.owner()
	way := links[owner]
	if way == nil {
		t.Fatalf("%q is the owner", owner)
	}
	moved := w.moves(owner)
	way.way.Lock()
	cut := time.Now()
	mend := sync.OnceFunc(way.way.Unlock)
	defer mend()
	took := <-moved
	t.Logf("another pod owns the source %s after the cut", took.Round(10*time.Millisecond))
	if took > 22*second { // lease_duration + 5 s, and what the machine needs
		t.Errorf("the failover took %s", took)
	}
	time.Sleep(time.Until(cut.Add(30 * second)))
	mended := time.Now()
	mend()
	time.Sleep(8 * second) // the pod finds its way back
	stop()
	// what was delivered since the last commit: five seconds, two until it counts as durable, ten until the renew
	// deadline
	w.check(18 * 5)
	w.mu.Lock()
	defer w.mu.Unlock()
	before, late := 0, 0
	for _, came := range w.came {
		for _, a := range came {
			switch {
			case a.pod != owner:
			case a.at.Before(cut):
				before++
			case a.at.After(cut.Add(13*second)) && a.at.Before(mended): // ten until the renew deadline, and Fluent Bit's flush
				late++
			}
		}
	}
	if before == 0 || late > 0 {
		t.Errorf("%s delivered %d alerts before it was cut off, and %d when its Lease was stale", owner, before, late)
	}
}
