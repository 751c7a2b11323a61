package enrol

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// Source fetches the releases that the control plane offers, on a connection of its
// own, so that a file under way keeps no heartbeat waiting. It is for one caller at a
// time.
type Source struct {
	Config      api.Config
	Certificate tls.Certificate
	// SPKI is the certificate's key, a DER SubjectPublicKeyInfo.
	SPKI []byte

	conn *channel.Conn
}

// Release is what the release says of itself. Errors are the network's, and
// attest.ErrMalformed.
func (s *Source) Release(ctx context.Context, d attest.ReleaseDigest) (api.UpdateRelease, error) {
	var r api.UpdateRelease
	b, err := s.call(ctx, api.UpdateReleasePath, api.UpdateRequest{Machine: s.Config.Machine, Release: d})
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%w: %s answered: %w", attest.ErrMalformed, api.UpdateReleasePath, err)
	}
	return r, nil
}

// File is the part of a file from offset on, of at most api.MaxChunkBytes; none at
// its end. Errors are the network's.
func (s *Source) File(ctx context.Context, d attest.ReleaseDigest, name string, offset int64) ([]byte, error) {
	return s.call(ctx, api.UpdateFilePath, api.UpdateFileRequest{Machine: s.Config.Machine, Release: d, Name: name, Offset: offset})
}

// call posts on the connection that there is, or on a new one.
func (s *Source) call(ctx context.Context, path string, in any) ([]byte, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if s.conn == nil || !s.conn.Free() {
		if s.conn, err = channel.DialEnrol(ctx, s.Config.ControlPlane, s.Certificate, s.SPKI, attest.Digest(s.Config.ControlPlaneSPKI)); err != nil {
			s.conn = nil
			return nil, err
		}
	}
	answer, err := s.conn.Call(ctx, http.MethodPost, path, "application/json", body, api.MaxChunkBytes)
	if err != nil {
		s.conn.Close()
		s.conn = nil
		return nil, explain(err)
	}
	return answer, nil
}
