package daemon

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/metrics"
)

// timeFormat has the precision of the metrics.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// NewLogger returns a logger that writes to w without sampling. format is json or console.
func NewLogger(w io.Writer, level, format string) (*zap.Logger, error) {
	lvl, err := zapcore.ParseLevel(level)
	if err != nil || level == "" || lvl > zapcore.ErrorLevel {
		return nil, fmt.Errorf("log level %q must be one of debug, info, warn, error", level)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.TimeKey, enc.EncodeTime = "time", func(t time.Time, e zapcore.PrimitiveArrayEncoder) {
		e.AppendString(t.UTC().Format(timeFormat))
	}
	encoder := zapcore.NewJSONEncoder(enc)
	switch format {
	case "json":
	case "console":
		encoder = zapcore.NewConsoleEncoder(enc)
	default:
		return nil, fmt.Errorf("log format %q is neither json nor console", format)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), lvl)), nil
}

func event(name string) zap.Field { return zap.String("event", name) }

// logPanic logs above the level of findings. A logger of NewLogger does not panic on DPanic.
func (d *Daemon) logPanic(chain string, v any, stack []byte) {
	d.opt.Log.DPanic("bug in kms-auditor, please report it", zap.String("chain", chain), zap.Any("panic", v), zap.ByteString("stack", stack))
}

// logReport logs what failed, what changed, and one wide line about the audit.
func (d *Daemon) logReport(r *audit.Report, changes []audit.Change) {
	log := d.opt.Log.With(zap.String("audit_id", r.AuditID))
	for _, c := range r.Chains {
		for _, e := range c.Errors {
			log.Warn("source failed", event("source_failed"), zap.String("chain", c.Chain),
				zap.String("stage", string(e.Stage)), zap.String("source", e.Source), zap.String("error", e.Message))
		}
	}
	for _, c := range changes {
		logChange(log, c)
	}
	for _, c := range r.Chains {
		for _, u := range metrics.Unconfirmed(&c) {
			log.Info("difference unconfirmed", event("difference_unconfirmed"), zap.String("chain", u.Chain), zap.String("contract", u.Contract),
				zap.String("list", string(u.Finding.List)), zap.String("id", u.Finding.ID), zap.String("finding", u.Finding.Message))
		}
	}
	level := zapcore.InfoLevel
	if r.Verdict != audit.Consistent {
		level = zapcore.WarnLevel
	}
	var chains []zapcore.ObjectMarshaler
	for _, c := range r.Chains {
		chains = append(chains, zap.DictObject(chainFields(&c)...))
	}
	log.Log(level, "audit finished", event("audit_finished"),
		zap.Stringer("verdict", r.Verdict),
		zap.Float64("duration_seconds", r.FinishedAt.Sub(r.StartedAt).Seconds()),
		zap.Objects("chains", chains))
}

var messages = map[audit.ChangeType]string{
	audit.Opened: "finding opened", audit.Open: "finding open", audit.Resolved: "finding resolved",
}

var levels = map[audit.Severity]zapcore.Level{
	audit.Critical: zapcore.ErrorLevel, audit.Warning: zapcore.WarnLevel, audit.Info: zapcore.InfoLevel,
}

func logChange(log *zap.Logger, c audit.Change) {
	level := levels[c.Finding.Severity]
	if c.Type == audit.Resolved {
		level = zapcore.InfoLevel
	}
	fields := []zap.Field{
		event(string(c.Type)), zap.String("chain", c.Chain), zap.String("contract", c.Contract),
		zap.String("kind", string(c.Finding.Kind)), zap.String("severity", string(c.Finding.Severity)),
	}
	if c.Finding.List != "" {
		fields = append(fields, zap.String("list", string(c.Finding.List)), zap.String("id", c.Finding.ID))
	}
	fields = append(fields, zap.String("finding", c.Finding.Message), zap.String("runbook", c.Finding.Runbook))
	if c.Finding.FirstSeen != nil {
		fields = append(fields, zap.Time("first_seen", *c.Finding.FirstSeen), zap.Time("last_confirmed_at", *c.Finding.LastConfirmedAt))
	}
	log.Log(level, messages[c.Type], fields...)
}

// chainFields returns a chain's part of the wide line.
func chainFields(c *audit.Chain) []zap.Field {
	fields := []zap.Field{zap.String("chain", c.Chain), zap.Stringer("verdict", c.Verdict), zap.String("policy", c.Policy)}
	if c.Block != nil {
		fields = append(fields, zap.Uint64("block_number", c.Block.Number), zap.String("block_hash", c.Block.Hash))
	}
	if c.Claim != nil {
		fields = append(fields, zap.String("claim_sha256", c.Claim.SHA256))
	}
	if c.Claims != "" {
		fields = append(fields, zap.String("claims", string(c.Claims)))
	}
	assurance, completeness, findings := map[string]int{}, map[string]int{}, 0
	for _, t := range c.Targets {
		assurance[cmp.Or(string(t.Assurance), "none")]++
		completeness[string(t.Completeness)]++
		findings += len(t.Findings)
	}
	fields = append(fields, zap.Int("contracts", len(c.Targets)), zap.Any("assurance", assurance), zap.Any("completeness", completeness))
	for _, v := range audit.EntryVerdicts {
		n := 0
		for _, t := range c.Targets {
			n += t.Counts.Of(v)
		}
		fields = append(fields, zap.Int(string(v), n))
	}
	return append(fields, zap.Int("findings", findings), zap.Int("errors", len(c.Errors)), zap.Float64("duration_seconds", c.Duration.Seconds()))
}
