package consensus

import "time"

// CheckAttested verifies an update except for its finality, and returns the attested header.
func (s *Store) CheckAttested(document []byte, withCommittee bool, now time.Time) (Header, error) {
	version, u, next, err := parse(document, withCommittee)
	if err == nil {
		_, err = s.checkAttested(version, u, next, now)
	}
	if err == nil {
		err = s.checkSignature(u)
	}
	if err != nil {
		return Header{}, err
	}
	return s.network.checkHeader(&u.AttestedHeader)
}

// Force applies the attested header of a verified update as if it were final.
func (s *Store) Force(document []byte, withCommittee bool) error {
	_, u, next, err := parse(document, withCommittee)
	if err != nil {
		return err
	}
	attested, err := s.network.checkHeader(&u.AttestedHeader)
	if err != nil {
		return err
	}
	return s.advance(attested, next)
}

func parse(document []byte, withCommittee bool) (string, *finalityUpdate, *nextCommittee, error) {
	if !withCommittee {
		var u finalityUpdate
		version, err := decode(document, &u)
		return version, &u, nil, err
	}
	var u update
	version, err := decode(document, &u)
	return version, &u.finalityUpdate, &u.nextCommittee, err
}
