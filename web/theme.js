// SPDX-License-Identifier: Apache-2.0
// Runs before the page is drawn, so that it does not flash in the wrong colours.
(function () {
    try {
        const theme = JSON.parse(localStorage.getItem('carat.settings') || '{}').theme;
        if (theme === 'light' || theme === 'dark') {
            document.documentElement.dataset.theme = theme;
        }
    } catch {
        // the system's choice
    }
})();
