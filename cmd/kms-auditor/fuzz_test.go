package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	main "github.com/kms-auditor/kms-auditor/cmd/kms-auditor"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// FuzzArguments holds that --since is a moment that its text names, and that -o names known kinds, one for stdout and
// one for each path, in folders that are there.
func FuzzArguments(f *testing.F) {
	for _, since := range []string{"", "2026-12-31", "2026-12-31T18:00:00+02:00", "72h", "30d", "-1h", "-1d", "70000d", "1.5d", "yesterday", "\x1b[2J", "1h30m"} {
		f.Add(since, "json", "text=report.txt")
	}
	for _, output := range []string{"", "=", "json=", "yaml", "json=missing/report", "sarif=.", "junit=./report.txt", "prom=\x00", "\x1b=x", "text=a=b"} {
		f.Add("1h", output, "text=report.txt")
	}
	f.Chdir(f.TempDir())
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, since, first, second string) {
		got, err := main.ParseSince(since, now)
		day, notDay := time.Parse(time.DateOnly, since)
		moment, notMoment := time.Parse(time.RFC3339, since)
		days, notDays := strconv.Atoi(strings.TrimSuffix(since, "d"))
		switch {
		case err != nil:
			fit.Error(t, err, 200+4*len(since))
			if since == "" || notDay == nil || notMoment == nil {
				t.Errorf("--since %q: %v", since, err)
			}
		case since == "":
			if !got.IsZero() {
				t.Errorf("no --since is %s", got)
			}
		case notDay == nil && !got.Equal(day), notDay != nil && notMoment == nil && !got.Equal(moment), notDay != nil && notMoment != nil && got.After(now),
			notDays == nil && strings.HasSuffix(since, "d") && !got.Equal(now.AddDate(0, 0, -days)):
			t.Errorf("--since %q is %s", since, got)
		}
		kinds, err := main.ParseOutputs([]string{first, second})
		if err != nil {
			fit.Error(t, err, 200+4*len(first+second))
			return
		}
		for path, of := range kinds {
			info, err := os.Stat(filepath.Dir(path))
			if len(of) != 1 || !slices.Contains([]string{"text", "json", "sarif", "junit", "prom"}, of[0]) || err != nil || !info.IsDir() {
				t.Errorf("-o %q -o %q write %q to %q", first, second, of, path)
			}
		}
	})
}
