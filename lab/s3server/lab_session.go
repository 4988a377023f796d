package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/versity/versitygw/internal/sigv4auth"
	"github.com/versity/versitygw/s3err"
)

// labSession knows temporary credentials as an instance profile gives them: a
// request with such an access key must carry exactly its session token, in a
// header or in a presigned URL, and acts as the server's owner, or as the
// account that the file /etc/lab/session-user names.
// Of the backends of versitygw, the ones without a service of their own refuse
// every session token.
func labSession(iam IAMService, root Account, access, token, date, region, service string) ([]byte, Account, error, bool) {
	secret, known, expired, ours := labCredential(access)
	switch {
	case !ours:
		return nil, Account{}, nil, false
	case token != known:
		return nil, Account{}, ErrInvalidSessionToken, true
	case expired:
		return nil, Account{}, s3err.APIError{
			Code:           "ExpiredToken",
			Description:    "The provided token has expired.",
			HTTPStatusCode: http.StatusBadRequest,
		}, true
	}
	key := sigv4auth.DeriveKey(secret, date, region, service)
	if name, err := os.ReadFile("/etc/lab/session-user"); err == nil {
		account, err := iam.GetUserAccount(strings.TrimSpace(string(name)))
		return key, account, err, true
	}
	return key, rootIdentity(iam, root), nil, true
}

// The second when it expires is part of such a key.
var labRotating = regexp.MustCompile(`^ASIALABR([0-9]{12})$`)

// labCredential knows one pair that never expires, and the family of those that
// /opt/lab/aws-standin.py rotates: all of such a pair follows from its access key.
func labCredential(access string) (secret, token string, expired, ours bool) {
	if access == "" {
		return "", "", false, false
	}
	if access == os.Getenv("LAB_SESSION_ACCESS_KEY_ID") {
		return os.Getenv("LAB_SESSION_SECRET_ACCESS_KEY"), os.Getenv("LAB_SESSION_TOKEN"), false, true
	}
	digits := labRotating.FindStringSubmatch(access)
	if digits == nil {
		return "", "", false, false
	}
	expires, err := strconv.ParseInt(digits[1], 10, 64)
	derive := func(part string) string {
		hash := hmac.New(sha256.New, []byte(os.Getenv("LAB_SESSION_SECRET_ACCESS_KEY")))
		hash.Write([]byte(part + access))
		return base64.StdEncoding.EncodeToString(hash.Sum(nil))
	}
	return derive("secret")[:40], os.Getenv("LAB_SESSION_TOKEN") + derive("token"), err != nil || time.Now().Unix() >= expires, true
}
