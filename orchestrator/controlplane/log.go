package controlplane

import (
	"bytes"

	"go.uber.org/zap"
)

// zapWriter takes what the HTTP servers say of broken connections.
type zapWriter struct{ log *zap.Logger }

func (w zapWriter) Write(b []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(b)))
	return len(b), nil
}
