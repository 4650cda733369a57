package logs

import (
	"cmp"
	"regexp"
	"strconv"

	"github.com/kms-auditor/kms-auditor/ethrpc/transport"
)

// rangeError is the refusal of a range of blocks. The provider may serve a smaller one.
type rangeError struct {
	err    error
	blocks uint64 // size that it may serve; zero if unknown
}

func (e *rangeError) Error() string { return e.err.Error() }
func (e *rangeError) Unwrap() error { return e.err }

// tooWide turns a transport error into a *rangeError if the size of the range may be the reason.
func (s *blockRange) tooWide(err error) error {
	switch {
	case transport.IsTooLarge(err) || transport.IsTooWide(err):
		return s.refusedFor(err)
	case transport.IsTimeout(err):
		// Every try costs a whole timeout. With large steps, a provider that hangs soon gives way to the next one.
		return &rangeError{err, max((s.to-s.from+1)/32, 1)}
	}
	return err
}

// refusedFor turns a provider's refusal into a rangeError with the size that it suggests. Building an answer that is too large
// takes a node long, so the next range is then much smaller.
func (s *blockRange) refusedFor(err error) *rangeError {
	blocks := suggested(transport.Wording(err), s.from, s.to)
	if blocks == 0 && transport.IsAnswerTooLarge(err) {
		blocks = max((s.to-s.from+1)/8, 1)
	}
	return &rangeError{err, blocks}
}

const number = `\b(0x[0-9a-fA-F]{1,16}|[0-9]{1,20})\b`

// pair matches two numbers, as in [0x1, 0x2], 100-200, 1..2 and "from 1 to 2".
var pair = regexp.MustCompile(number + `\W*(?:-|–|,|\.\.|to)\W*` + number)

// suggested finds a block range in a provider's message and returns its size. It returns zero unless the range starts at from
// and ends before to.
func suggested(text string, from, to uint64) uint64 {
	text = text[:min(len(text), 4096)]
	for {
		m := pair.FindStringSubmatchIndex(text)
		if m == nil {
			return 0
		}
		first, err := strconv.ParseUint(text[m[2]:m[3]], 0, 64)
		last, err2 := strconv.ParseUint(text[m[4]:m[5]], 0, 64)
		if err == nil && err2 == nil && first == from && from <= last && last < to {
			return last - from + 1
		}
		text = text[m[3]:] // the second number may begin another pair
	}
}

const (
	maxStep     = 10_000
	minPatience = 4
	maxPatience = 64
)

// rangeSizer adapts the number of blocks in a range (AIMD-like). It shrinks at a refusal, and grows by a quarter after some ranges
// were served. So it finds a provider's limit soon, and recovers after blocks with many logs.
type rangeSizer struct {
	blocks   uint64 // of the next range
	good     uint64 // size to fall back to
	max      uint64
	streak   int // ranges of full size since the last change
	patience int // streak after which it grows; doubles when a growth was refused
}

func newRangeSizer(step uint64) *rangeSizer {
	step = min(cmp.Or(step, maxStep), maxStep)
	return &rangeSizer{blocks: step, good: step, max: maxStep, patience: minPatience}
}

// refused records that n blocks, at least two, were too many. want is the suggested size, or zero.
func (s *rangeSizer) refused(n, want uint64) {
	fallback := n / 2
	if s.good < n {
		fallback = s.good
		s.patience = min(2*s.patience, maxPatience)
	}
	s.blocks = cmp.Or(want, fallback)
	s.good, s.streak = min(s.good, s.blocks), 0
}

// accepted records that n blocks were served.
func (s *rangeSizer) accepted(n uint64) {
	if n < s.blocks || s.blocks == s.max {
		return
	}
	s.good = s.blocks
	if s.streak++; s.streak == s.patience {
		s.blocks, s.streak = min(s.blocks+max(s.blocks/4, 1), s.max), 0
	}
}
