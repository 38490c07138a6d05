package ipfs

import (
	"io"
	"net/http"
)

func copyAll(w io.Writer, res *http.Response) (int64, error) { return io.Copy(w, res.Body) }
