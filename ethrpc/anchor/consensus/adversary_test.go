package consensus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/kms-auditor/kms-auditor/ethrpc/anchor/consensus"
	"github.com/kms-auditor/kms-auditor/internal/testenv/beacon"
)

// period is the number of slots in a period of the test chain.
const period = 512

func newChain(t testing.TB) (*beacon.Chain, consensus.Network) {
	t.Helper()
	c := beacon.New(beacon.Options{GenesisTime: 1_700_000_000, SecondsPerSlot: 12})
	n, err := consensus.NetworkFromSpec(c.Spec())
	if err != nil {
		t.Fatal(err)
	}
	return c, n
}

// startAt returns a Store that starts at a slot and has the next committee.
func startAt(t testing.TB, c *beacon.Chain, n consensus.Network, slot uint64) *consensus.Store {
	t.Helper()
	root, data := c.Bootstrap(slot)
	s, err := consensus.Bootstrap(n, root, beacon.Encode(beacon.Fulu, data), slotTime(n, slot))
	if err == nil {
		err = s.Update(beacon.Encode(beacon.Fulu, c.Update(c.Claim(slot+8))), slotTime(n, slot+10))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused checks that err contains says.
func refused(t *testing.T, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, want %q", err, says)
	}
}

func dig(d beacon.Document, path ...string) beacon.Document {
	for _, name := range path {
		d = d[name].(beacon.Document)
	}
	return d
}

// TestLies has updates that are signed by the committee they name. Each is refused for its own reason; the Store is unchanged.
func TestLies(t *testing.T) {
	c, n := newChain(t)
	const start = 2 * period
	infinity := append(hexutil.Bytes{0xc0}, make([]byte, 95)...)
	for _, row := range []struct {
		sentence string
		claim    func(*beacon.Claim)
		data     func(beacon.Document)
		version  string
		says     string
	}{
		{sentence: "nothing is wrong"},
		{sentence: "two thirds are enough", claim: func(c *beacon.Claim) { c.Signers = 22 }},
		{sentence: "one fewer than two thirds signed", claim: func(c *beacon.Claim) { c.Signers = 21 }, says: "21 of 32 members of the sync committee signed"},
		{sentence: "no member signed", claim: func(c *beacon.Claim) { c.Signers = 0 }, says: "0 of 32 members"},
		{sentence: "the committee of the period before signed", claim: func(c *beacon.Claim) { c.SignedBy-- }, says: "the signature is invalid"},
		{sentence: "the committee of two periods before signed", claim: func(c *beacon.Claim) { c.SignedBy -= 2 }, says: "the signature is invalid"},
		{sentence: "the next committee signed too early", claim: func(c *beacon.Claim) { c.SignedBy++ }, says: "the signature is invalid"},
		{sentence: "the signature is of the attested slot", claim: func(c *beacon.Claim) { c.SignatureSlot = c.Attested }, says: "not older than its signature"},
		{sentence: "the finalized block is newer than the attested one", claim: func(c *beacon.Claim) { c.Finalized = c.Attested + 1 }, says: "newer than the attested one"},
		{sentence: "the signature is for another fork", claim: func(c *beacon.Claim) { c.Version = [4]byte{0x20, 0, 0, 0x94} }, says: "the signature is invalid"},
		{sentence: "the signature is for another network", claim: func(c *beacon.Claim) { c.ValidatorsRoot[0]++ }, says: "the signature is invalid"},
		{sentence: "the version is an earlier fork", version: "electra", says: `its version is "electra", but slot 1065 is of fork fulu`},
		{sentence: "the document says that it is of a fork of the future", version: "gloas", says: "upgrade kms-auditor"},
		{sentence: "the version is a past fork", version: "capella", says: "fork capella, which is too old to be verified"},
		{sentence: "finalized and attested header are swapped", data: func(d beacon.Document) {
			d["attested_header"], d["finalized_header"] = d["finalized_header"], d["attested_header"]
		}, says: "the next sync committee is not proven by the beacon state"},
		{sentence: "the branches are swapped", data: func(d beacon.Document) {
			d["finality_branch"], d["next_sync_committee_branch"] = d["next_sync_committee_branch"], d["finality_branch"]
		}, says: "the next sync committee is not proven by the beacon state"},
		{sentence: "the finality branch has one node more", data: func(d beacon.Document) {
			d["finality_branch"] = append(d["finality_branch"].([]common.Hash), common.Hash{})
		}, says: "the finalized header is not proven by the attested state"},
		{sentence: "the finalized header is another one", data: func(d beacon.Document) {
			other := c.FinalityUpdate(c.Claim(start + 30))
			d["finalized_header"] = other["finalized_header"]
		}, says: "the finalized header is not proven by the attested state"},
		{sentence: "the execution header is that of another block", data: func(d beacon.Document) {
			d["finalized_header"].(beacon.Document)["execution"] = dig(c.FinalityUpdate(c.Claim(start+30)), "finalized_header")["execution"]
		}, says: "the execution header is not proven by the beacon block of slot 1064"},
		{sentence: "the attested block has another execution header", data: func(d beacon.Document) {
			d["attested_header"].(beacon.Document)["execution"] = dig(d, "finalized_header")["execution"]
		}, says: "the execution header is not proven by the beacon block of slot 1065"},
		{sentence: "the block hash is another one", data: func(d beacon.Document) {
			dig(d, "finalized_header", "execution")["block_hash"] = common.Hash{1}
		}, says: "the execution header is not proven by the beacon block of slot 1064"},
		{sentence: "the next committee is not the one that is proven", data: func(d beacon.Document) {
			d["next_sync_committee"] = c.Update(c.Claim(4 * period))["next_sync_committee"]
		}, says: "the next sync committee is not proven by the beacon state"},
		{sentence: "the next committee lacks a member", data: func(d beacon.Document) {
			next := dig(d, "next_sync_committee")
			next["pubkeys"] = next["pubkeys"].([]hexutil.Bytes)[1:]
		}, says: "has 31 members, want 32"},
		{sentence: "the committee has more bits than members", data: func(d beacon.Document) {
			dig(d, "sync_aggregate")["sync_committee_bits"] = "0xffffffffff"
		}, says: "40 participation bits"},
		{sentence: "the signature is the point at infinity", data: func(d beacon.Document) {
			dig(d, "sync_aggregate")["sync_committee_signature"] = infinity
		}, says: "the point at infinity"},
		{sentence: "the signature is not in the subgroup", data: func(d beacon.Document) {
			dig(d, "sync_aggregate")["sync_committee_signature"] = outsideSubgroup(96)
		}, says: "subgroup"},
		{sentence: "extra_data is longer than it can be", data: func(d beacon.Document) {
			dig(d, "finalized_header", "execution")["extra_data"] = make(hexutil.Bytes, 33)
		}, says: "more than 32 bytes"},
		{sentence: "a period is skipped", claim: func(c *beacon.Claim) {
			c.Finalized, c.Attested, c.SignatureSlot, c.SignedBy = 4*period, 4*period+1, 4*period+2, 4
		}, says: "an update is missing"},
		{sentence: "an update of the next period is fine", claim: func(c *beacon.Claim) {
			c.Finalized, c.Attested, c.SignatureSlot, c.SignedBy = 3*period, 3*period+1, 3*period+2, 3
		}},
		{sentence: "an older finality is replayed", claim: func(c *beacon.Claim) {
			c.Finalized, c.Attested, c.SignatureSlot = start+4, start+5, start+6
		}, says: "older than the known state"},
		{sentence: "an older finality is signed anew", claim: func(c *beacon.Claim) { c.Finalized = start + 4 }, says: "older than the known state"},
		{sentence: "the finality of an earlier period is replayed", claim: func(c *beacon.Claim) {
			c.Finalized, c.Attested, c.SignatureSlot, c.SignedBy = period, period+1, period+2, 1
		}, says: "older than the known state"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			s := startAt(t, c, n, start)
			claim := c.Claim(start + 40)
			if row.claim != nil {
				row.claim(&claim)
			}
			data := c.Update(claim)
			if row.data != nil {
				row.data(data)
			}
			if row.version == "" {
				row.version = beacon.Fulu
			}
			before := *s
			err := s.Update(beacon.Encode(row.version, data), slotTime(n, 5*period))
			if row.says == "" {
				if err != nil || s.Finalized().Slot != claim.Finalized {
					t.Errorf("slot %d is final: %v", s.Finalized().Slot, err)
				}
				return
			}
			refused(t, err, row.says)
			if *s != before {
				t.Error("the Store changed")
			}
		})
	}
}

// TestTwoThirdsOf512 checks that 342 signatures are enough and 341 are not.
func TestTwoThirdsOf512(t *testing.T) {
	c := beacon.New(beacon.Options{GenesisTime: 1_700_000_000, SecondsPerSlot: 12, CommitteeSize: 512})
	n, err := consensus.NetworkFromSpec(c.Spec())
	if err != nil {
		t.Fatal(err)
	}
	s := startAt(t, c, n, 64)
	claim := c.Claim(100)
	claim.Signers = 341
	refused(t, s.Finality(beacon.Encode(beacon.Fulu, c.FinalityUpdate(claim)), slotTime(n, 200)), "341 of 512 members of the sync committee signed")
	claim.Signers = 342
	if err := s.Finality(beacon.Encode(beacon.Fulu, c.FinalityUpdate(claim)), slotTime(n, 200)); err != nil {
		t.Error(err)
	}
}

// TestAnotherNextCommittee has a second committee for one period, which is proven and signed. It would be another chain.
func TestAnotherNextCommittee(t *testing.T) {
	c, n := newChain(t)
	s := startAt(t, c, n, period)
	claim := c.Claim(period + 40)
	claim.Next = 4
	refused(t, s.Update(beacon.Encode(beacon.Fulu, c.Update(claim)), slotTime(n, 3*period)), "differs from the one that was proven before")
}

// TestAnotherFinalBlock checks that a second final block of one slot is refused.
func TestAnotherFinalBlock(t *testing.T) {
	c, n := newChain(t)
	s := startAt(t, c, n, period)
	slot := s.Finalized().Slot
	other, _ := newChain(t)
	other.Finalize(ours(1, n.GenesisTime+slot*12))
	refused(t, s.Finality(beacon.Encode(beacon.Fulu, other.FinalityUpdate(other.Claim(slot))), slotTime(n, 3*period)), "is final")
}

// TestKeys checks that a committee with invalid public keys is refused, even if it is in the beacon state.
func TestKeys(t *testing.T) {
	infinity := append([]byte{0xc0}, make([]byte, 47)...)
	for sentence, row := range map[string]struct {
		key  []byte
		says string
	}{
		"a key is the point at infinity": {infinity, "decoding key 3 of the sync committee: it is the point at infinity"},
		"a key is not in the subgroup":   {outsideSubgroup(48), "decoding key 3 of the sync committee: invalid point: subgroup check failed"},
		"a key is not compressed":        {make([]byte, 48), "decoding key 3"},
	} {
		t.Run(sentence, func(t *testing.T) {
			c, n := newChain(t)
			s := startAt(t, c, n, 64)
			before := *s
			c.Spoil(0, 3, row.key)
			c.Spoil(2, 3, row.key)
			root, data := c.Bootstrap(64)
			_, err := consensus.Bootstrap(n, root, beacon.Encode(beacon.Fulu, data), slotTime(n, 64))
			refused(t, err, row.says)
			refused(t, s.Update(beacon.Encode(beacon.Fulu, c.Update(c.Claim(period))), slotTime(n, 2*period)), row.says)
			if *s != before {
				t.Error("the Store changed")
			}
		})
	}
}

// TestTheClock checks that a signature in the future is refused, apart from MaxClockSkew.
func TestTheClock(t *testing.T) {
	c, n := newChain(t)
	document := beacon.Encode(beacon.Fulu, c.FinalityUpdate(c.Claim(40)))
	at := slotTime(n, 42)
	s := startAt(t, c, n, 16)
	refused(t, s.Finality(document, at.Add(-consensus.MaxClockSkew-time.Nanosecond)), "the signature of slot 42 is in the future")
	if err := s.Finality(document, at.Add(-consensus.MaxClockSkew)); err != nil {
		t.Error(err)
	}
	root, data := c.Bootstrap(64)
	document = beacon.Encode(beacon.Fulu, data)
	_, err := consensus.Bootstrap(n, root, document, slotTime(n, 64).Add(-time.Minute))
	refused(t, err, "the block of slot 64 is in the future")
	_, err = consensus.Bootstrap(n, root, document, time.Unix(1, 0))
	refused(t, err, "check the clock")
}

// TestBootstrapLies checks that a bootstrap must be of the trusted block, with the committee in that block's state.
func TestBootstrapLies(t *testing.T) {
	c, n := newChain(t)
	root, _ := c.Bootstrap(64)
	for _, row := range []struct {
		sentence, version string
		root              common.Hash
		data              func(beacon.Document)
		says              string
	}{
		{"it is of another block", beacon.Fulu, common.Hash{1}, func(beacon.Document) {}, "it is of another block, " + root.Hex()},
		{"its version is another fork", "electra", root, func(beacon.Document) {}, `its version is "electra"`},
		{"its committee is another one", beacon.Fulu, root, func(d beacon.Document) {
			_, other := c.Bootstrap(period)
			d["current_sync_committee"] = other["current_sync_committee"]
		}, "the current sync committee is not proven by the beacon state"},
		{"its committee is the next one", beacon.Fulu, root, func(d beacon.Document) {
			u := c.Update(c.Claim(64))
			d["current_sync_committee"], d["current_sync_committee_branch"] = u["next_sync_committee"], u["next_sync_committee_branch"]
		}, "the current sync committee is not proven by the beacon state"},
		{"its execution header is another one", beacon.Fulu, root, func(d beacon.Document) {
			dig(d, "header", "execution")["state_root"] = common.Hash{1}
		}, "the execution header is not proven by the beacon block"},
	} {
		t.Run(row.sentence, func(t *testing.T) {
			_, data := c.Bootstrap(64)
			row.data(data)
			s, err := consensus.Bootstrap(n, row.root, beacon.Encode(row.version, data), slotTime(n, 64))
			refused(t, err, row.says)
			if s != nil {
				t.Error("there is a Store")
			}
		})
	}
}

// TestNewerForks checks that an unknown fork is refused from its scheduled epoch on.
func TestNewerForks(t *testing.T) {
	c, _ := newChain(t)
	spec := c.Spec()
	spec["GLOAS_FORK_EPOCH"], spec["GLOAS_FORK_VERSION"] = "20", "0x20000096"
	n, err := consensus.NetworkFromSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	s := startAt(t, c, n, 64)
	if err := s.Finality(beacon.Encode(beacon.Fulu, c.FinalityUpdate(c.Claim(158))), slotTime(n, 200)); err != nil {
		t.Errorf("the last slots before the fork: %v", err)
	}
	for name, claim := range map[string]beacon.Claim{
		"the attested block is of the fork":  c.Claim(159),
		"the finalized block is of the fork": c.Claim(160),
		"the signature alone is of the fork": {Attested: 159, Finalized: 159, SignatureSlot: 161, Signers: 32, Version: [4]byte{0x20, 0, 0, 0x96}, ValidatorsRoot: beacon.ValidatorsRoot},
	} {
		err := s.Finality(beacon.Encode(beacon.Fulu, c.FinalityUpdate(claim)), slotTime(n, 200))
		if refused(t, err, `of fork "gloas", which begins at epoch 20: this release does not support that fork: upgrade kms-auditor`); t.Failed() {
			t.Fatal(name)
		}
	}
}
