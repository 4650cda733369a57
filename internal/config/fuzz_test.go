package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

// bomb is a document of nested aliases, which expands to 9^8 texts.
const bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
	"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nchains: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n"

func TestHugeNonsenseIsRefusedInTime(t *testing.T) {
	for _, row := range []struct{ name, file string }{
		{"an alias bomb", bomb},
		{"lists in lists", "chains: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000)},
		{"a list of 100,000 numbers", "chains: [" + strings.Repeat("1,", 100_000) + "]"},
		{"100,000 unknown keys", strings.Repeat("a: 1\n", 100_000)},
		{"a schedule of 1,000,000 digits", "schedule: " + strings.Repeat("9", 1_000_000)},
	} {
		t.Run(row.name, func(t *testing.T) {
			start := time.Now()
			_, err := config.Parse([]byte(row.file), config.Env{})
			problems, ok := errors.AsType[config.Problems](err)
			if !ok || len(problems) > 101 || len(err.Error()) > 50_000 {
				t.Fatalf("got %d problems, %d bytes", len(problems), len(err.Error()))
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, "testdata/full.yaml", "../../config.example.yaml") {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(bomb))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse(data, config.Env{Dir: dir, Lookup: badEnv.Lookup, Now: badEnv.Now})
		if err != nil {
			if ps, ok := errors.AsType[config.Problems](err); !ok || len(ps) == 0 || strings.Count(err.Error(), "\n") != len(ps)-1 {
				t.Errorf("not one line for each problem: %q", err)
			}
			return
		}
		if len(cfg.Chains) == 0 || cfg.Cron == nil || cfg.Timezone == "" || cfg.ConfirmDelay >= cfg.Timeout || cfg.Evidence.KeepChanges < 1 || cfg.Evidence.KeepLast < 1 {
			t.Errorf("accepted as %+v", cfg)
		}
		for _, a := range cfg.Accept {
			if a.Chain == "" || !a.Kind.Acceptable() || a.Kind.OfEntry() != (a.List != "") || strings.TrimSpace(a.Reason) == "" || len(a.Reason) > 200 || a.Expires.Sub(badEnv.Now()) > 366*24*time.Hour {
				t.Errorf("accepted the difference %+v", a)
			}
		}
		for _, c := range cfg.Chains {
			if c.Name == "" || c.ChainID == 0 || c.BatchSize < 1 || len(c.Block) == 0 || len(c.Providers) == 0 || c.Providers[0].URL.Empty() || c.Agreement < 1 || c.Agreement > uint64(len(c.Providers)) {
				t.Errorf("accepted chain %+v", c)
			}
			for _, contract := range c.Contracts {
				for _, e := range contract.Explained {
					if e.Reason == "" || len(e.Reason) > 200 {
						t.Errorf("accepted explanation %+v", e)
					}
				}
			}
		}
	})
}
