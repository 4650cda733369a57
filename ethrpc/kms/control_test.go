package kms_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fit"
)

// FuzzControl checks that an owner is decoded from a whole word, that strings are no longer than their encoding, and that an
// undecodable answer leaves an error.
func FuzzControl(f *testing.F) {
	word := func(b ...byte) []byte { return append(make([]byte, 32-len(b)), b...) }
	text := slices.Concat(word(32), word(3), []byte("app"), make([]byte, 29))
	info := slices.Concat(word(128), word(128), word(128), word(128), word(1), []byte{7}, make([]byte, 31))
	f.Add(word(1), text, info, word(2))
	f.Add([]byte{}, []byte{}, []byte{}, word())
	f.Add(bytes.Repeat([]byte{0xff}, 32), bytes.Repeat([]byte{0xff}, 64), bytes.Repeat([]byte{0xff}, 128), bytes.Repeat([]byte{0xff}, 32))
	f.Add(word(1)[1:], slices.Concat(word(32), word(0xff, 0xff, 0xff)), info[:130], word(1))
	f.Fuzz(func(t *testing.T, owner, app, info, slot []byte) {
		var c kms.Control
		for i, data := range [][]byte{owner, owner, app, info} {
			c.SetGetter(i, data, nil)
		}
		c.SetImplementation(common.BytesToHash(slot), nil)
		isAddress := len(owner) == 32 && bytes.Equal(owner[:12], make([]byte, 12))
		if c.Owner.Present != isAddress || isAddress && !bytes.Equal(c.Owner.Value[:], owner[12:]) {
			t.Errorf("%x is the owner %+v", owner, c.Owner)
		}
		if len(c.GatewayAppID.Value) > len(app) || !bytes.Contains(app, []byte(c.GatewayAppID.Value)) || len(c.K256Pubkey.Value)+len(c.CAPubkey.Value) > 2*len(info) || !bytes.Contains(info, c.CAPubkey.Value) {
			t.Errorf("read as %+v", c)
		}
		if len(owner) > 0 && c.Owner.Present == (c.Owner.Err != nil) || len(app) > 0 && c.GatewayAppID.Present == (c.GatewayAppID.Err != nil) {
			t.Errorf("%x and %x are lost without an error: %+v", owner, app, c)
		}
		for _, err := range []error{c.Owner.Err, c.PendingOwner.Err, c.Implementation.Err, c.GatewayAppID.Err, c.K256Pubkey.Err, c.CAPubkey.Err} {
			if err != nil {
				fit.Error(t, err, 500)
			}
		}
	})
}
