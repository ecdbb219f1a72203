package conf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// badStanzas returns the files of testdata/bad: one fault each, but for a few that are about several. The lines that
// start with "# want: " are the whole error.
func badStanzas(t testing.TB) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/bad/*.conf")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bad stanzas: %v", err)
	}
	texts := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimSuffix(filepath.Base(path), ".conf")] = string(text)
	}
	return texts
}

func TestBadStanzasAreRefusedToTheLetter(t *testing.T) {
	for name, text := range badStanzas(t) {
		t.Run(name, func(t *testing.T) {
			var want []string
			for line := range strings.Lines(text) {
				if fault, found := strings.CutPrefix(line, "# want: "); found {
					want = append(want, strings.TrimSuffix(fault, "\n"))
				}
			}
			c, err := Load(inputs(t, text)[0].get, noEnv)
			if err == nil {
				t.Fatal("Load found no fault")
			}
			if c != nil {
				t.Error("Load gave a Config beside an error")
			}
			if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadStanzasShowNoSecret(t *testing.T) {
	for name, text := range badStanzas(t) {
		t.Run(name, func(t *testing.T) {
			s := inputs(t, text)[0]
			_, err := Load(s.get, noEnv)
			secrets := []string{"opensesame", "open%sesame", "hunter2"}
			for _, m := range misspellings() {
				if m.secret && s.values[m.wrong] != "" {
					secrets = append(secrets, s.values[m.wrong])
				}
			}
			for _, k := range Keys {
				if k.Secret && s.values[k.Name] != "" {
					secrets = append(secrets, s.values[k.Name])
				}
			}
			for _, secret := range secrets {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q is shown: %v", secret, err)
				}
			}
		})
	}
}

func TestEveryKeyHasABadStanza(t *testing.T) {
	texts := strings.Builder{}
	for _, text := range badStanzas(t) {
		texts.WriteString(text)
	}
	for _, k := range Keys {
		if !strings.Contains(texts.String(), "\n    "+k.Name+" ") {
			t.Errorf("no bad stanza has %s", k.Name)
		}
	}
}

func TestFaultsAreTheSameEveryTime(t *testing.T) {
	for name, text := range badStanzas(t) {
		get := inputs(t, text)[0].get
		_, first := Load(get, noEnv)
		for range 5 {
			if _, err := Load(get, noEnv); !reflect.DeepEqual(err, first) {
				t.Fatalf("%s: %v, then %v", name, first, err)
			}
		}
	}
}

func TestFaultsCanBeTakenApart(t *testing.T) {
	_, err := Load(with("poll_interval 5x", "region de"), noEnv)
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 2 {
		t.Fatalf("error is %T with %v", err, err)
	}
	if faults[0].Key != "region" || faults[1].Key != "poll_interval" {
		t.Errorf("faults out of the order of the table: %v", faults)
	}
}

func TestAnEmptyStanzaLacksWhatIsRequired(t *testing.T) {
	_, err := Load(noEnv, noEnv)
	var keys []string
	for _, f := range err.(Faults) {
		keys = append(keys, f.Key)
	}
	if diff := cmp.Diff([]string{"tenant_id", "client_id", "client_secret", "region"}, keys); diff != "" {
		t.Errorf("missing keys (-want +got):\n%s", diff)
	}
}
