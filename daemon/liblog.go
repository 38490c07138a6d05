package daemon

import (
	"io"

	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// LogLibraries makes the libraries below write their logs to w instead of standard error.
func LogLibraries(w io.Writer) { ipfs.LogLibraries(w) }
