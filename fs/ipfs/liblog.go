package ipfs

import (
	"io"

	golog "github.com/ipfs/go-log/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// LogLibraries makes the libraries of this package write their logs to w, one line of JSON
// each. By themselves they write to standard error, past whoever filters what strangers said:
// their errors have addresses and messages of peers in them. It is for the whole process.
func LogLibraries(w io.Writer) {
	to := zapcore.Lock(zapcore.AddSync(w))
	golog.SetPrimaryCore(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), to, zapcore.DebugLevel))
}
