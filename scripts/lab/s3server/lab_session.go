package auth

import (
	"os"
	"strings"

	"github.com/versity/versitygw/internal/sigv4auth"
)

// labSession knows one pair of temporary credentials, as an instance profile
// gives them: a request with that access key must carry exactly its session
// token, in a header or in a presigned URL, and acts as the server's owner, or
// as the account that the file /etc/lab/session-user names.
// Of the backends of versitygw, the ones without a service of their own refuse
// every session token.
func labSession(iam IAMService, root Account, access, token, date, region, service string) ([]byte, Account, error, bool) {
	if access == "" || access != os.Getenv("LAB_SESSION_ACCESS_KEY_ID") {
		return nil, Account{}, nil, false
	}
	if token != os.Getenv("LAB_SESSION_TOKEN") {
		return nil, Account{}, ErrInvalidSessionToken, true
	}
	key := sigv4auth.DeriveKey(os.Getenv("LAB_SESSION_SECRET_ACCESS_KEY"), date, region, service)
	if name, err := os.ReadFile("/etc/lab/session-user"); err == nil {
		account, err := iam.GetUserAccount(strings.TrimSpace(string(name)))
		return key, account, err, true
	}
	return key, rootIdentity(iam, root), nil, true
}
