package webvh

import "slices"

// Marks of devices are ours and not of the specification, like the mark of a recovery key
// (see recovery.go): one more value in nextKeyHashes, which others take for one more
// unused hash. Here it says whose next key a hash is, so that the key of a device that is
// taken out of the document can be taken out of the list too.

const deviceLabel = "did:webvh device key\x00"

// MarkDevice is the mark that makes a hash in nextKeyHashes that of a device.
func MarkDevice(device, hash string) string {
	return hashText([]byte(deviceLabel + device + "\x00" + hash))
}

// Marked tells whether a list of nextKeyHashes has a hash with the mark of a device.
func Marked(nextKeyHashes []string, device, hash string) bool {
	return slices.Contains(nextKeyHashes, hash) && slices.Contains(nextKeyHashes, MarkDevice(device, hash))
}
