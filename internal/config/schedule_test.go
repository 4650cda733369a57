package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/config"
)

// The machine is elsewhere, from before any goroutine could look.
func init() { time.Local = time.FixedZone("elsewhere", -5*3600) }

func TestScheduleFiresInItsZone(t *testing.T) {
	tokyo := time.FixedZone("Tokyo", 9*3600)
	from := time.Date(2026, 3, 1, 10, 7, 30, 500, time.UTC)
	for _, row := range []struct {
		name, spec string
		loc        *time.Location
		want       string
	}{
		{"every five minutes", "*/5 * * * *", time.UTC, "2026-03-01T10:10:00Z"},
		{"no zone is UTC, whatever the machine's zone", "0 9 * * *", nil, "2026-03-02T09:00:00Z"},
		{"nine o'clock in the zone given", "0 9 * * *", tokyo, "2026-03-02T00:00:00Z"},
		{"the machine's zone when asked for", "0 9 * * *", time.Local, "2026-03-01T14:00:00Z"},
		{"a descriptor is in the zone too", "@daily", tokyo, "2026-03-01T15:00:00Z"},
		{"an interval counts whole seconds", "@every 90s", tokyo, "2026-03-01T10:09:00Z"},
		{"blanks around are no harm", "  @hourly ", time.UTC, "2026-03-01T11:00:00Z"},
		{"the leap day comes within five years", "0 0 29 2 *", time.UTC, "2028-02-29T00:00:00Z"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := config.ParseSchedule(row.spec, row.loc)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Next(from).UTC().Format(time.RFC3339); got != row.want {
				t.Errorf("%q fires at %s, want %s", row.spec, got, row.want)
			}
		})
	}
}

func TestScheduleRefused(t *testing.T) {
	for _, row := range []struct{ name, spec, want string }{
		{"empty", "", "is not five cron fields"},
		{"four fields", "* * * *", "expected exactly 5 fields, found 4"},
		{"six fields", "0 * * * * *", "expected exactly 5 fields, found 6"},
		{"minute 60", "60 * * * *", "above maximum (59)"},
		{"a word", "x * * * *", "not a number: x"},
		{"zone prefix", "TZ=UTC * * * * *", "set the key timezone instead"},
		{"zone prefix that makes the parser panic", "TZ=0", "set the key timezone instead"},
		{"cron zone prefix behind a blank", " CRON_TZ=Asia/Tokyo 0 9 * * *", "set the key timezone instead"},
		{"thirtieth of February", "0 0 30 2 *", "never fires"},
		{"a field of commas only", ", * * * *", "never fires"},
		{"at reboot", "@reboot", "unrecognized descriptor"},
		{"every nothing", "@every", "needs a duration such as 5m"},
		{"every 5 without a unit", "@every 5", "needs a duration such as 5m"},
		{"every zero", "@every 0s", "at least 1s"},
		{"every minus minute", "@every -1m", "at least 1s"},
		{"every half second", "@every 500ms", "at least 1s"},
		{"every second and a half", "@every 1500ms", "whole seconds"},
		{"a long line is cut", strings.Repeat("9", 5000) + " * * * *", "…"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := config.ParseSchedule(row.spec, time.UTC)
			if err == nil {
				t.Fatalf("%q was accepted as %v", row.spec, s)
			}
			if !strings.Contains(err.Error(), row.want) || len(err.Error()) > 800 {
				t.Errorf("error %q does not say %q in short", err, row.want)
			}
		})
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, spec := range []string{"*/5 * * * *", "@every 5m", "@every 2562047h47m16s", "@hourly", "TZ=0", "0 0 30 2 *", "1-5/2,7 0 ? jan sun", ", , , , ,"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := config.ParseSchedule(spec, time.UTC)
		if err != nil {
			return
		}
		if now := time.Now(); !s.Next(now).After(now) {
			t.Errorf("%q was accepted and next fires at %s", spec, s.Next(now))
		}
	})
}
