package beacon

import (
	"math/big"
	"strconv"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// committee is a sync committee. The secret key of member i of period p is p·2¹⁶ + i + 1.
type committee struct {
	period    uint64
	keys      []hexutil.Bytes
	aggregate hexutil.Bytes
	root      common.Hash
}

func secret(period uint64, member int) *big.Int {
	return big.NewInt(int64(period<<16) + int64(member) + 1)
}

// secretSum returns the sum of the secret keys of the first members.
func secretSum(period uint64, members int) *big.Int {
	sum := new(big.Int)
	for i := range members {
		sum.Add(sum, secret(period, i))
	}
	return sum
}

func (c *Chain) committee(period uint64) *committee {
	if known := c.committees[period]; known != nil {
		return known
	}
	publicKey := func(secret *big.Int) hexutil.Bytes {
		b := new(bls.G1Affine).ScalarMultiplicationBase(secret).Bytes()
		return b[:]
	}
	out := &committee{period: period, aggregate: publicKey(secretSum(period, c.CommitteeSize))}
	for i := range c.CommitteeSize {
		out.keys = append(out.keys, publicKey(secret(period, i)))
	}
	out.seal()
	c.committees[period] = out
	return out
}

func (c *committee) seal() {
	var roots []common.Hash
	for _, key := range c.keys {
		roots = append(roots, bytesRoot(key))
	}
	c.root = pair(root(roots...), bytesRoot(c.aggregate))
}

// Spoil replaces a member's key in the committee of a period.
func (c *Chain) Spoil(period uint64, member int, key []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spoilt := c.committee(period)
	spoilt.keys[member] = key
	spoilt.seal()
}

func (c *committee) document() Document {
	return Document{"pubkeys": c.keys, "aggregate_pubkey": c.aggregate}
}

// Claim is the content of an update, true or not, and who signs it.
type Claim struct {
	Attested, Finalized, SignatureSlot uint64
	Signers                            int         // number of members that sign
	SignedBy                           uint64      // period of the committee that signs
	Version                            [4]byte     // of the fork that the signature is for
	ValidatorsRoot                     common.Hash // of the network that it is for
	Next                               uint64      // period of the next committee in the attested state
}

// Claim returns a true claim: the slot finalized is final, and all members signed the block after it.
func (c *Chain) Claim(finalized uint64) Claim {
	return Claim{
		Attested: finalized + 1, Finalized: finalized, SignatureSlot: finalized + 2,
		Signers: c.CommitteeSize, SignedBy: c.Period(finalized + 2), Version: Version, ValidatorsRoot: ValidatorsRoot, Next: c.Period(finalized+1) + 1,
	}
}

// FinalityUpdate returns the data of a finality update with a claim.
func (c *Chain) FinalityUpdate(claim Claim) Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, data := c.finalityUpdate(claim)
	return data
}

func (c *Chain) finalityUpdate(claim Claim) (*block, Document) {
	finalized := c.block(claim.Finalized, filler("finalized", 0))
	attested := c.block(claim.Attested, finalized.root())
	attested.state[nextAt] = c.committee(claim.Next).root
	bits := make(hexutil.Bytes, c.CommitteeSize/8)
	for i := range claim.Signers {
		bits[i/8] |= 1 << (i % 8)
	}
	return attested, Document{
		"attested_header": attested.header(), "finalized_header": finalized.header(), "finality_branch": attested.state.branch(finalizedAt),
		"sync_aggregate": Document{"sync_committee_bits": bits, "sync_committee_signature": sign(attested.root(), claim)},
		"signature_slot": strconv.FormatUint(claim.SignatureSlot, 10),
	}
}

// Update returns the data of an update: a finality update with the next committee of the attested state.
func (c *Chain) Update(claim Claim) Document {
	c.mu.Lock()
	defer c.mu.Unlock()
	attested, data := c.finalityUpdate(claim)
	data["next_sync_committee"] = c.committee(claim.Next).document()
	data["next_sync_committee_branch"] = attested.state.branch(nextAt)
	return data
}

// Bootstrap returns the root of a slot's block, and the data of its bootstrap.
func (c *Chain) Bootstrap(slot uint64) (common.Hash, Document) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.block(slot, filler("finalized", 0))
	return b.root(), Document{
		"header": b.header(), "current_sync_committee": c.committee(c.Period(slot)).document(), "current_sync_committee_branch": b.state.branch(currentAt),
	}
}

func sign(block common.Hash, claim Claim) hexutil.Bytes {
	data := pair(common.Hash(common.RightPadBytes(claim.Version[:], 32)), claim.ValidatorsRoot)
	domain := common.Hash(append([]byte{7, 0, 0, 0}, data[:28]...))
	message := pair(block, domain)
	point, err := bls.HashToG2(message[:], []byte("BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"))
	if err != nil {
		panic(err) // unreachable: the domain is short enough
	}
	b := point.ScalarMultiplication(&point, secretSum(claim.SignedBy, claim.Signers)).Bytes()
	return b[:]
}
