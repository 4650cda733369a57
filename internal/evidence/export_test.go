package evidence

// VerifyBy is Verify with other rules.
var VerifyBy = verifyBy
