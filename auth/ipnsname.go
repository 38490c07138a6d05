package auth

import (
	"encoding/binary"
	"fmt"

	"github.com/multiformats/go-multibase"
)

// DefaultGateway is the host below which an IPNS name is a host name of its own. Nothing
// is sent there; it makes the name of the identity one that any resolver can follow once
// the owner has published it.
const DefaultGateway = "dweb.link"

// ipnsName is the IPNS name of an Ed25519 key: a CID of the key itself, in base36.
func ipnsName(public []byte) (string, error) {
	key := append([]byte{0x08, 0x01, 0x12, byte(len(public))}, public...) // libp2p's protobuf: Ed25519
	cid := []byte{0x01, 0x72, 0x00}                                       // CIDv1, libp2p-key, identity hash
	cid = binary.AppendUvarint(cid, uint64(len(key)))
	name, err := multibase.Encode(multibase.Base36, append(cid, key...))
	if err != nil {
		return "", fmt.Errorf("IPNS name: %w", err)
	}
	return name, nil
}

// location is where the log of an identity is found: the host that a gateway gives its
// IPNS name.
func location(publishing *secret) (string, error) {
	name, err := ipnsName(signingPublic(publishing))
	if err != nil {
		return "", err
	}
	return name + ".ipns." + DefaultGateway, nil
}
