package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/kms-auditor/kms-auditor/internal/sanitize"
)

var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// ParseSchedule reads five cron fields, a descriptor such as @hourly, or @every with a duration of whole seconds.
// Fields are times in loc (nil: UTC). A schedule that never fires is an error.
func ParseSchedule(spec string, loc *time.Location) (cron.Schedule, error) {
	if loc == nil {
		loc = time.UTC
	}
	spec = strings.TrimSpace(spec)
	// The library panics on a zone that no schedule follows.
	if strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=") {
		return nil, errors.New("a time zone inside the schedule is not allowed: set the key timezone instead")
	}
	if every, ok := strings.CutPrefix(spec, "@every"); ok {
		return parseEvery(strings.TrimSpace(every))
	}
	s, err := cronParser.Parse(spec)
	if err != nil {
		msg, _, _ := strings.Cut(err.Error(), ": strconv.")
		msg = sanitize.Plain(strings.Replace(msg, "failed to parse int from", "not a number:", 1))
		return nil, fmt.Errorf("%s is not five cron fields, a descriptor such as @hourly, or @every 5m: %s", sanitize.Quote(spec), msg)
	}
	z := zoned{s, loc}
	if z.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("%s never fires", sanitize.Quote(spec))
	}
	return z, nil
}

func parseEvery(s string) (cron.Schedule, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("@every needs a duration such as 5m, not %s", sanitize.Quote(s))
	case d < time.Second || d%time.Second != 0:
		return nil, fmt.Errorf("@every %s must be whole seconds, at least 1s", d)
	}
	return cron.Every(d), nil
}

// zoned evaluates a schedule in loc. The parser leaves fields in time.Local, which to the library means
// "the zone of the time that Next is given".
type zoned struct {
	cron.Schedule
	loc *time.Location
}

func (z zoned) Next(t time.Time) time.Time { return z.Schedule.Next(t.In(z.loc)) }
