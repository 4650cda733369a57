package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// The file's buckets. Every key begins with the target but in aboutBucket, which tells whose file it is; every value
// there ends with a checksum over bucket, key and value. The progress record counts and sums up the events as well, and
// the roll the progress records and blobs: a record that is gone, old or in another's place is noticed like one that is
// not what was written.
const (
	aboutBucket    = "kms-auditor"
	eventBucket    = "events"   // target, block, index → event
	progressBucket = "progress" // target → progress
	blobBucket     = "blobs"    // target, name → blob

	rollKey   = "roll"
	schemaKey = "schema"
	schema    = 2 // 1 had no roll
)

const (
	targetLen   = 8 + common.AddressLength
	eventKeyLen = targetLen + 8 + 8
	eventMin    = 3*common.HashLength + common.AddressLength + 8 + 1
	progressLen = 8 + 8 + common.HashLength + 8 + 8
	sumLen      = 8
	maxListLen  = 64
)

var (
	errSum    = errors.New("a record does not match its checksum")
	errRecord = errors.New("a record has the wrong form")
)

func targetKey(t Target) []byte {
	return append(binary.BigEndian.AppendUint64(nil, t.ChainID), t.Contract[:]...)
}

func readTargetKey(key []byte) (Target, error) {
	if len(key) < targetLen {
		return Target{}, errRecord
	}
	return Target{binary.BigEndian.Uint64(key), common.Address(key[8:targetLen])}, nil
}

// sum is a checksum against accidents: no signature, since whoever can write the file can compute it.
func sum(bucket string, key, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte(bucket), uint32(len(key)))
	s := sha256.Sum256(append(append(b, key...), body...))
	return s[:sumLen]
}

func seal(bucket string, key, body []byte) change {
	return change{bucket, key, append(body, sum(bucket, key, body)...)}
}

// unseal returns the body of a record and its checksum.
func unseal(bucket string, key, value []byte) ([]byte, []byte, error) {
	n := len(value) - sumLen
	if n < 0 || !bytes.Equal(value[n:], sum(bucket, key, value[:n])) {
		return nil, nil, errSum
	}
	return value[:n], value[n:], nil
}

func eventKey(t Target, e Event) []byte {
	k := binary.BigEndian.AppendUint64(targetKey(t), e.Block)
	return binary.BigEndian.AppendUint64(k, uint64(e.Index))
}

// sealEvent returns an event's record, and what it adds to the tally.
func sealEvent(t Target, e Event) (change, uint64) {
	var unix int64
	if !e.Time.IsZero() {
		unix = e.Time.Unix()
	}
	b := make([]byte, 0, eventMin+len(e.List)+sumLen)
	b = append(b, e.BlockHash[:]...)
	b = append(b, e.Tx[:]...)
	b = append(b, e.Key[:]...)
	b = append(b, e.Actor[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(unix))
	added := byte(0)
	if e.Added {
		added = 1
	}
	c := seal(eventBucket, eventKey(t, e), append(append(b, added), e.List...))
	return c, binary.BigEndian.Uint64(c.value[len(c.value)-sumLen:])
}

func readEvent(key, value []byte) (e Event, tally uint64, err error) {
	b, s, err := unseal(eventBucket, key, value)
	if err != nil {
		return e, 0, err
	}
	if len(key) != eventKeyLen || len(b) <= eventMin || len(b) > eventMin+maxListLen {
		return e, 0, errRecord
	}
	e.Block = binary.BigEndian.Uint64(key[targetLen:])
	e.Index = uint(binary.BigEndian.Uint64(key[targetLen+8:]))
	for _, h := range []*common.Hash{&e.BlockHash, &e.Tx, &e.Key} {
		*h, b = common.Hash(b[:common.HashLength]), b[common.HashLength:]
	}
	e.Actor, b = common.Address(b[:common.AddressLength]), b[common.AddressLength:]
	e.Time = seconds(int64(binary.BigEndian.Uint64(b)))
	e.Added = b[8] == 1
	e.List = string(b[9:])
	return e, binary.BigEndian.Uint64(s), nil
}

// seconds returns a time as it is kept; zero is not known.
func seconds(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

func sealProgress(t Target, p Progress, events int, tally uint64) change {
	b := binary.BigEndian.AppendUint64(nil, p.From)
	b = binary.BigEndian.AppendUint64(b, p.Next)
	b = append(b, p.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(events))
	return seal(progressBucket, targetKey(t), binary.BigEndian.AppendUint64(b, tally))
}

// readProgress returns the progress that fits the events read before.
func readProgress(key, value []byte, events []Event, tally uint64) (Progress, error) {
	b, _, err := unseal(progressBucket, key, value)
	if err != nil {
		return Progress{}, err
	}
	if len(key) != targetLen || len(b) != progressLen {
		return Progress{}, errRecord
	}
	p := Progress{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), common.Hash(b[16:48])}
	if n := binary.BigEndian.Uint64(b[48:]); n != uint64(len(events)) {
		return Progress{}, fmt.Errorf("it holds %d events where it counted %d", len(events), n)
	}
	if binary.BigEndian.Uint64(b[56:]) != tally {
		return Progress{}, errors.New("its events are not those that it counted")
	}
	return p, nil
}

func blobKey(t Target, name string) []byte { return append(targetKey(t), name...) }

// roll has the checksum of each progress record and blob, by bucket and key.
type roll map[[2]string]uint64

// call takes a record up, or off where value is nil; those of other buckets are not on the roll.
func (r roll) call(bucket string, key, value []byte) {
	switch at := [2]string{bucket, string(key)}; {
	case bucket != progressBucket && bucket != blobBucket:
	case value == nil:
		delete(r, at)
	default:
		r[at] = binary.BigEndian.Uint64(value[len(value)-sumLen:])
	}
}

// seal returns what stands beside records that are those on the roll.
func (r roll) seal() []change {
	tally := uint64(0)
	for _, sum := range r {
		tally ^= sum
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(len(r)))
	return []change{
		seal(aboutBucket, []byte(rollKey), binary.BigEndian.AppendUint64(b, tally)),
		{aboutBucket, []byte(schemaKey), strconv.AppendInt(nil, schema, 10)},
	}
}
