package controlplane

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/orchestrator/config"
)

// checkEndorsements reads what machines are given once, so that a wrong file
// shows at the start.
func (p *ControlPlane) checkEndorsements(context.Context) error {
	if _, err := readEndorsements(p.Config.Endorsements); err != nil {
		return p.Config.Errorf("policy.endorsements", err)
	}
	return nil
}

// readEndorsements reads what machines are given; nil where none is named.
func readEndorsements(named []config.Endorsement) ([]byte, error) {
	if len(named) == 0 {
		return nil, nil
	}
	var all evidence.Endorsements
	for _, n := range named {
		if err := addEndorsement(&all, n); err != nil {
			return nil, fmt.Errorf("reading endorsements %s: %w", n.File, err)
		}
	}
	encoded, err := all.Encode()
	if err != nil {
		return nil, err
	}
	if len(encoded) > api.MaxEndorsements {
		return nil, fmt.Errorf("endorsements have %d bytes, at most %d", len(encoded), api.MaxEndorsements)
	}
	// What a machine would drop is an operator's mistake.
	_, err = evidence.DecodeEndorsements(encoded)
	return encoded, err
}

func addEndorsement(all *evidence.Endorsements, n config.Endorsement) error {
	b, err := readCapped(n.File)
	if err != nil {
		return err
	}
	switch n.Kind {
	case config.EKIntermediates:
		all.EKIntermediates, err = appendPEM(all.EKIntermediates, b, "CERTIFICATE")
	case config.ReportCertificates:
		all.ReportCertificates, err = appendPEM(all.ReportCertificates, b, "CERTIFICATE")
	case config.RevocationLists:
		all.RevocationLists, err = appendPEM(all.RevocationLists, b, "X509 CRL")
	case config.TDXCollateral:
		all.TDX = b
		_, err = tdx.ParseCollateral(b)
	}
	return err
}

func readCapped(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// PEM takes a third more than what it holds, and has comments.
	const limit = 2 * api.MaxEndorsements
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// appendPEM adds the blocks of a PEM file, which has one at the least and none
// of another kind.
func appendPEM(to [][]byte, text []byte, kind string) ([][]byte, error) {
	before := len(to)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != kind {
			return nil, fmt.Errorf("it holds a PEM %.40s, want %s", block.Type, kind)
		}
		to = append(to, block.Bytes)
	}
	if len(to) == before {
		return nil, errors.New("it holds no PEM " + kind)
	}
	return to, nil
}
