"""The page of an audit: `page` writes it from what `payload` makes of it; `differences` finds what attacks put in."""
