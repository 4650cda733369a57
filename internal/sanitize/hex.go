package sanitize

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// ParseID reads a bytes32: exactly 64 hex digits in any case, with or without the prefix 0x.
func ParseID(s string) (common.Hash, error) {
	var id common.Hash
	return id, decode(id[:], s)
}

// ParseAddress reads an address: exactly 40 hex digits in any case, with or without the prefix 0x.
// Mixed case is not checked as an EIP-55 checksum: the sources spell addresses in every way.
func ParseAddress(s string) (common.Address, error) {
	var a common.Address
	return a, decode(a[:], s)
}

// ID is the one spelling of an id: 0x and 64 lower-case digits. Where s, which ParseID read, is spelled so, it is s itself.
func ID(id common.Hash, s string) string {
	text := [2 + 2*common.HashLength]byte{'0', 'x'}
	hex.Encode(text[2:], id[:])
	if s == string(text[:]) {
		return s
	}
	return string(text[:])
}

func decode(dst []byte, s string) error {
	digits := strings.TrimPrefix(s, "0x")
	if len(digits) == len(s) {
		digits = strings.TrimPrefix(s, "0X")
	}
	if len(digits) != 2*len(dst) {
		return fmt.Errorf("%s has %d characters after the prefix, want %d hex digits", Quote(s), len(digits), 2*len(dst))
	}
	var text [2 * common.HashLength]byte // on the stack
	if _, err := hex.Decode(dst, text[:copy(text[:], digits)]); err != nil {
		return fmt.Errorf("%s is not hex", Quote(s))
	}
	return nil
}
