package adminclient

import (
	"context"
	"net/http"
)

const logPath = "/v1/log"

// Log is the transparency log's state. Errors are those of every call.
func (c *Client) Log(ctx context.Context) (l Log, err error) {
	return l, c.call(ctx, http.MethodGet, logPath, nil, &l)
}

// AddLogEntry adds a withdrawal or a rotation, and returns once a witnessed
// checkpoint has it. Errors are those of every call.
func (c *Client) AddLogEntry(ctx context.Context, entry []byte) (e LogEntry, err error) {
	return e, c.call(ctx, http.MethodPost, logPath+"/entries", NewLogEntry{Entry: entry}, &e)
}

// RotateLogKey draws the log's next key. Errors are those of every call.
func (c *Client) RotateLogKey(ctx context.Context) (l Log, err error) {
	return l, c.call(ctx, http.MethodPost, logPath+"/rotate", nil, &l)
}
