package aws

import (
	"io"
	"os"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/uefidata"
)

// maxKey caps one of Secure Boot's variables; all have to fit into 64000
// characters.
const maxKey = 64 << 10

// uefiData are the variables that a release's machines start with; nil where it
// has no keys of Secure Boot, which is then off:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/create-ami-with-uefi-secure-boot.html
func uefiData(image providers.Image) (*string, error) {
	if len(image.SecureBoot) == 0 {
		return nil, nil //nolint:nilnil // no variables are an answer
	}
	keys := map[string][]byte{"PK": nil, "KEK": nil, "db": nil, "dbx": nil}
	for _, k := range image.SecureBoot {
		if there, known := keys[k.Name]; !known || there != nil {
			return nil, providers.Errorf(providers.CodeInvalid, "image: %q is no key of Secure Boot's, or comes twice", k.Name)
		}
		content, err := readKey(k)
		if err != nil {
			return nil, err
		}
		keys[k.Name] = content
	}
	for _, name := range []string{"PK", "KEK", "db"} {
		if len(keys[name]) == 0 {
			return nil, providers.Errorf(providers.CodeInvalid, "image: the key %s is missing", name)
		}
	}
	text, err := uefidata.Encode(uefidata.SecureBoot(keys["PK"], keys["KEK"], keys["db"], keys["dbx"]))
	if err != nil {
		return nil, providers.Errorf(providers.CodeInvalid, "image: the keys of Secure Boot: %s", err)
	}
	return &text, nil
}

func readKey(k providers.Key) ([]byte, error) {
	f, err := os.Open(k.Path)
	if err != nil {
		return nil, providers.Errorf(providers.CodeInvalid, "image: the key %s: %s", k.Name, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	content, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, providers.Errorf(providers.CodeInternal, "reading the key %s: %s", k.Name, err)
	}
	if int64(len(content)) != k.Bytes || attest.Sum(content) != k.SHA256 || len(content) > maxKey {
		return nil, providers.Errorf(providers.CodeInvalid, "image: the key %s is not the one that was announced", k.Name)
	}
	return content, nil
}
