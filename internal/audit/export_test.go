package audit

// SetPages sets the most rows and files of a page.
func (a *Auditor) SetPages(rows, files int) { a.rowsPage, a.filesPage = rows, files }
