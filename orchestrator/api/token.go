package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

const tokenPrefix = "shed_"

// AdminToken makes the token in a file good, drawing one where there is none.
// The store keeps its hash alone, so the file is the only copy. Errors are the
// file's and the store's.
func AdminToken(ctx context.Context, s store.Store, path string, random io.Reader) error {
	text, err := os.ReadFile(path)
	token := strings.TrimSpace(string(text))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if token, err = drawToken(random); err != nil {
			return err
		}
		if err := statefile.Write(path, 0o600, []byte(token+"\n")); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("reading the admin token: %w", err)
	case !strings.HasPrefix(token, tokenPrefix):
		return fmt.Errorf("reading the admin token: %s does not hold one", path)
	}
	return s.Update(ctx, func(tx store.Tx) error { return tx.PutToken(attest.Sum([]byte(token)), "admin") })
}

func drawToken(random io.Reader) (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("drawing a token: %w", err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:]), nil
}
