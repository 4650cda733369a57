package evidence

// VerifyBy is Verify of a release with other rules.
var VerifyBy = verifyBy
