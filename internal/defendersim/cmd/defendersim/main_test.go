package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
)

// asCommand makes the test binary the command itself, so that a test drives a real process.
const asCommand = "DEFENDERSIM_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// eventually fails unless the condition holds within 10 s.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatalf("it never came: %s", what)
}

func readURLs(t *testing.T, file string) (u URLs) {
	t.Helper()
	eventually(t, "the URL file", func() bool { _, err := os.Stat(file); return err == nil })
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &u)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// pull gets a token and all alerts of the last two hours.
func pull(t *testing.T, u URLs) []map[string]any {
	t.Helper()
	pem, err := os.ReadFile(u.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	res, err := client.PostForm(u.TokenURL, url.Values{"grant_type": {"client_credentials"}, "resource": {u.Resource},
		"client_id": {u.ClientID}, "client_secret": {u.ClientSecret}})
	if err != nil {
		t.Fatal(err)
	}
	var tok struct {
		AccessToken string `json:"access_token"`
	}
	json.NewDecoder(res.Body).Decode(&tok)
	res.Body.Close()
	req, _ := http.NewRequest("GET", u.AlertsURL, nil)
	req.Header.Set("Authorization", "Bearer "+tok.AccessToken)
	if res, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var rows []map[string]any
	if err := json.NewDecoder(res.Body).Decode(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestTheProcessServesUntilItIsStopped(t *testing.T) {
	dir := t.TempDir()
	urlFile, ledger := filepath.Join(dir, "urls.json"), filepath.Join(dir, "ledger.jsonl")
	var out bytes.Buffer
	cmd := exec.Command(os.Args[0], "-url-file", urlFile, "-ca", filepath.Join(dir, "ca.pem"), "-ledger", ledger,
		"-initial", "50", "-rate", "200", "-groups", "A,B,C", "-tie-share", "0.2")
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	u := readURLs(t, urlFile)
	var rows []map[string]any
	eventually(t, "51 alerts of the start and some more", func() bool { rows = pull(t, u); return len(rows) > 60 })

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	known := make(map[string]bool)
	file, err := os.Open(ledger)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var line struct{ Key string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		known[line.Key] = true
	}
	example := 0
	for _, row := range rows {
		if !known[defendersim.KeyOf(row)] {
			t.Errorf("not in the ledger: %s", defendersim.KeyOf(row))
		}
		if row["AlertId"] == "636207535742330111_-1114309685" {
			example++
		}
	}
	if example != 1 {
		t.Errorf("the example alert came %d times", example)
	}
	last := strings.TrimSpace(out.String())
	last = last[strings.LastIndex(last, "\n")+1:]
	var st defendersim.Stats
	if err := json.Unmarshal([]byte(last), &st); err != nil || st.Alerts == 0 || st.Rows < 60 {
		t.Errorf("counts: %v in %s", err, last)
	}
	if strings.Contains(out.String(), u.ClientSecret) {
		t.Error("the secret was printed")
	}
}

func TestFaultsOfTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	urlFile := filepath.Join(dir, "urls.json")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-plain", "-url-file", urlFile, "-faults", "503", "-fault-share", "1"}, &out)
	}()
	u := readURLs(t, urlFile)
	res, err := http.Get(u.AlertsURL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 503 {
		t.Errorf("status %d", res.StatusCode)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBadCommandLines(t *testing.T) {
	for args, message := range map[string]string{
		"-order=sideways":                  `order: "sideways" is not known`,
		"-form=xml":                        `form: "xml" is not known`,
		"-style=bold":                      `style: "bold" is not known`,
		"-bounds=some":                     `bounds: "some" is not known`,
		"-faults=500":                      "faults: none would come without a fault-share",
		"-faults=nosuch -fault-share=0.1":  `fault "nosuch" is not known; known are`,
		"stray":                            `unexpected argument "stray"`,
		"-listen=256.0.0.1:0":              "simulated service: listen tcp",
		"-plain -ca=x":                     "simulated service: a plain server has no CA",
		"-ledger=/proc/nowhere/ledger":     "open /proc/nowhere/ledger",
		"-plain -url-file=/proc/nowhere/u": "open /proc/nowhere/",
	} {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		err := run(ctx, strings.Fields(args), &bytes.Buffer{})
		stop()
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", args, err)
		}
	}
	if err := run(t.Context(), []string{"-h"}, &bytes.Buffer{}); err != nil {
		t.Errorf("-h: %v", err)
	}
}
